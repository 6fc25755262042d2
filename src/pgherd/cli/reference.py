"""The page of all commands, from the commands themselves: docs/reference/cli.md.

Owns its form. What it says of a command, an argument or an option is their own help.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

HEAD = """\
# Commands

Made by `./dev docs` from the commands; do not edit. How they are used:
[the command line](../guide/command-line.md). Exit codes:
[troubleshooting](../operate/troubleshooting.md#exit-codes).

Every command that asks a node also takes: {shared}.
"""
SHARED = ("output", "api_url", "config", "context", "timeout", "no_color")
"""Parameters that `app.asking` gives to all; told once."""


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command with its words, as `raft snapshot save`; in the order of --help."""
    if group is None:
        from typer.main import get_command

        from pgherd.cli.app import build

        group = get_command(build())
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def page() -> str:
    """The whole page."""
    every = sorted(commands(), key=lambda one: one[0])
    asking = dict(every)["status"]
    shared = ", ".join(f"`{one.opts[0]}`" for one in asking.params if one.name in SHARED)
    parts = [HEAD.format(shared=shared)]
    parts += [section(words, command) for words, command in every]
    return "\n".join(parts)


def section(words: str, command: Any) -> str:
    """One command: what it does, how it is called, what it takes."""
    context = command.context_class(command, info_name=words)
    asks = {"api_url", "context"} <= {one.name for one in command.params}
    own = [one for one in command.params if not (asks and one.name in SHARED)]
    arguments = [one for one in own if one.param_type_name == "argument"]
    options = [one for one in own if one.param_type_name == "option"]
    call = " ".join(("pgherd", words, *(form(one) for one in arguments)))
    lines = [f"## {words}", "", " ".join((command.help or "").split()), ""]
    lines += ["```", call, "```", ""]
    told = [(form(one), one.help or "") for one in arguments if one.help]
    told += [record for one in options if (record := one.get_help_record(context))]
    if told:
        lines += ["| | |", "|---|---|"]
        lines += [f"| `{escaped(name)}` | {escaped(text)} |" for name, text in told]
        lines.append("")
    return "\n".join(lines)


def form(argument: Any) -> str:
    """An argument as it stands in the call."""
    name = str(argument.metavar or argument.name.upper())
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    return name if argument.required else f"[{name}]"


def escaped(text: str) -> str:
    """Text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
