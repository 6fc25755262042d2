"""The commands: a table of them, the options that all share, and how errors end.

Owns `run`, the one place where an exception becomes a message and an exit code. The commands
themselves are in `watching`, `changing` and `making`.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import typer

from pgherd.cli.client import ANSWER_TIMEOUT_S, NO_QUORUM, Api, Target, find_target
from pgherd.cli.output import Format, say
from pgherd.model.errors import PgherdError

Command = Callable[..., Any]

OutputOption = Annotated[Format, typer.Option("--output", "-o", help="Form of the answer.")]
UrlOption = Annotated[
    str | None,
    typer.Option("--api-url", help="API to ask, several with commas. [env: PGHERD_API_URL]"),
]
ConfigOption = Annotated[
    str | None, typer.Option("--config", "-c", help="Configuration. [env: PGHERD_CONFIG]")
]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait.")]
ContextOption = Annotated[
    str | None, typer.Option("--context", help="As of pgherd login. [env: PGHERD_CONTEXT]")
]
ColorOption = Annotated[bool, typer.Option("--no-color", help="Without colours.")]


class Common(msgspec.Struct, frozen=True):
    """What every command that asks a daemon is given."""

    output: Format
    api_url: str | None
    config: str | None
    timeout_s: float
    color: bool
    context: str | None = None

    def target(self) -> Target:
        """Where to ask."""
        return find_target(api_url=self.api_url, config=self.config, context=self.context)

    def api(self) -> Api:
        """The API to ask."""
        return Api(self.target(), timeout_s=self.timeout_s)


COMMON = (
    ("output", OutputOption, Format.TABLE),
    ("api_url", UrlOption, None),
    ("config", ConfigOption, None),
    ("context", ContextOption, None),
    ("timeout", TimeoutOption, ANSWER_TIMEOUT_S),
    ("no_color", ColorOption, False),
)


def asking(command: Command) -> Command:
    """Give a command, whose first parameter is a Common, the options that all share."""
    signature = inspect.signature(command, eval_str=True)
    own = list(signature.parameters.values())[1:]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, kind, default in COMMON
    ]

    @functools.wraps(command)
    def called(**given: Any) -> Any:
        common = Common(
            output=given.pop("output"),
            api_url=given.pop("api_url"),
            config=given.pop("config"),
            context=given.pop("context"),
            timeout_s=given.pop("timeout"),
            color=not (given.pop("no_color") or os.environ.get("NO_COLOR")),
        )
        return command(common, **given)

    merged = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own] + shared
    called.__signature__ = signature.replace(parameters=merged)  # type: ignore[attr-defined] # for typer
    called.__annotations__ = {one.name: one.annotation for one in merged}
    return called


def build() -> typer.Typer:
    """All commands."""
    from pgherd.cli import (
        access,
        certificates,
        changing,
        completion,
        configuring,
        connecting,
        connections,
        contexts,
        doctoring,
        drilling,
        events,
        explaining,
        localcluster,
        making,
        membership,
        parameters,
        passwords,
        pools,
        progress,
        promising,
        reporting,
        saving,
        slots,
        standbycluster,
        telling,
        tending,
        tokens,
        topology,
        upgrading,
        upkeep,
        watching,
    )

    app = empty()
    app.command("start")(making.start)
    raft = membership.RAFT_COMMANDS | explaining.RAFT_COMMANDS
    looking = (watching, topology, events, explaining, doctoring, connections, pools, progress)
    changes = (changing, drilling, upkeep, tending, telling, membership, making)
    for room in (*looking, *changes, reporting, connecting, contexts, completion, tokens):
        for name, command in room.COMMANDS.items():
            app.command(name)(command)
    add_groups(
        app,
        (
            "config",
            "PostgreSQL's parameters for all members; this node's own file.",
            parameters.COMMANDS | configuring.COMMANDS,
        ),
        ("config hba", "Who may log in: lines of pg_hba.conf.", access.commands("hba")),
        ("config ident", "Maps of system users: lines of pg_ident.conf.", access.commands("ident")),
        ("passwords", "Passwords of pgherd's own roles, changed as it runs.", passwords.COMMANDS),
        ("sync", "What a commit promises: mode, copies, how it waits.", promising.COMMANDS),
        ("slots", "Replication slots of all nodes, and those that are kept.", slots.COMMANDS),
        ("upgrade", "Newer minor versions of PostgreSQL.", upgrading.COMMANDS),
        (
            "cluster",
            "The cluster as a whole: follow another site's; one for development.",
            standbycluster.COMMANDS | localcluster.COMMANDS,
        ),
        ("token", "Tokens: for joining, and of the API.", tokens.TOKEN_COMMANDS),
        ("pki", "Certificates: this node's, and those of clients.", certificates.COMMANDS),
        ("context", "Clusters that you have logged in to.", contexts.GROUP),
        ("raft", "Consensus: who votes, who leads, lost quorum.", raft),
        ("raft snapshot", "The ledger in a file: save it, restore it.", saving.COMMANDS),
    )
    return app


def empty() -> typer.Typer:
    """The program without a command."""
    return typer.Typer(
        name="pgherd",
        help="Keeps a PostgreSQL cluster writable and loses no acknowledged commit.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def add_groups(app: typer.Typer, *added: tuple[str, str, dict[str, Command]]) -> None:
    """Add groups of commands: name, help and commands of each; a group before those within it."""
    groups = {"": app}
    for name, help_text, commands in added:
        parent, _, leaf = name.rpartition(" ")
        group = typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None)
        groups[name] = group
        for inner, command in commands.items():
            group.command(inner)(command)
        groups[parent].add_typer(group, name=leaf)


def run(argv: list[str]) -> int:
    """Run one command line; the exit code."""
    try:
        build()(args=argv, prog_name="pgherd")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except PgherdError as error:
        say(f"pgherd: {error.message}")
        if error.hint:
            say(f"  next: {error.hint}")
        return exit_of(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    return 0


def exit_of(error: PgherdError) -> int:
    """The exit code: an API error knows its own, the others their class's."""
    code = getattr(error, "exit", error.exit_code)
    assert 0 < code <= NO_QUORUM + 2, code
    return int(code)
