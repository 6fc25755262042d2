"""Commands about PostgreSQL's parameters for all members: `config show`, `set`, `plan` and so on.

Owns the plan's wording and the forms of input; lines of access are `access`'s. Checking, planning
and keeping are the daemons'.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.changing import GRACE_S, YesOption, agree
from pgherd.cli.output import Format, emit, line, say, table
from pgherd.cli.watching import pending
from pgherd.model.errors import OperatorError

PATH = "/api/v1/config"
TOLD_S = 15.0
ROLES = ("primary", "replica")

PairsArgument = Annotated[list[str] | None, typer.Argument(help="name=value ...")]
ResetOption = Annotated[list[str] | None, typer.Option("--reset", help="Say nothing of this one.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the history.")]
OnOption = Annotated[
    str | None, typer.Option("--on", help="Only while primary or replica, or on one node.")
]
TrialOption = Annotated[
    str | None, typer.Option("--trial", help="It goes back after so long (5m) unless confirmed.")
]
FileOption = Annotated[
    str | None, typer.Option("--file", "-f", help="YAML with exactly these parameters, or -.")
]


@asking
def show(common: Common) -> None:
    """PostgreSQL's parameters for all members, and how far each member is."""
    found = common.api().get(PATH)
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    by = f" by {found['author']}, {found['at']}" if found["author"] else ""
    line(f"version {found['version']}{by}" + (f": {found['reason']}" if found["reason"] else ""))
    if found["trial_until"]:
        line(f"on trial until {found['trial_until']}; to keep it: pgherd config confirm")
    table(("where", "parameter", "value"), everywhere(found["postgresql"]), color=common.color)
    show_nodes(common, found["nodes"])


def everywhere(said: dict[str, Any]) -> list[tuple[str, str, str]]:
    """All parameters, with where they count."""
    parts = {"": said["parameters"], "primary": said["primary"], "replica": said["replica"]}
    parts |= dict(sorted(said["nodes"].items()))
    return [(where, *pair) for where, part in parts.items() for pair in sorted(part.items())]


def show_nodes(common: Common, nodes: list[dict[str, Any]]) -> None:
    rows = [
        (one["node"], one["version"], pending(one["pending_restart"]), one["failed"])
        for one in nodes
    ]
    table(("node", "version", "waits for a restart", "failed"), rows, color=common.color)


@asking
def set_(
    common: Common,
    pairs: PairsArgument = None,
    reset: ResetOption = None,
    on: OnOption = None,
    trial: TrialOption = None,
    reason: ReasonOption = "",
    yes: YesOption = False,
) -> None:
    """Change some parameters on all members; the plan is shown first."""
    body = wanted(pairs, reset, on)
    change(common, "PATCH", body, reason=reason, yes=yes, trial=trial)


@asking
def plan(
    common: Common,
    pairs: PairsArgument = None,
    reset: ResetOption = None,
    on: OnOption = None,
    file: FileOption = None,
) -> None:
    """What a change would do: on which nodes, with which restarts, in which order."""
    method = "PUT" if file is not None else "PATCH"
    body = of_file(file) if file is not None else wanted(pairs, reset, on)
    tell(common, ask(common, method, PATH, body, dry_run=True))


@asking
def apply(
    common: Common,
    file: Annotated[str, typer.Argument(help="YAML with exactly these parameters, or -.")],
    trial: TrialOption = None,
    reason: ReasonOption = "",
    yes: YesOption = False,
) -> None:
    """Have exactly the parameters of a file."""
    change(common, "PUT", of_file(file), reason=reason, yes=yes, trial=trial)


@asking
def edit(common: Common, reason: ReasonOption = "", yes: YesOption = False) -> None:
    """Edit the parameters in $EDITOR."""
    import yaml

    now = common.api().get(PATH)
    parameters = now["postgresql"]["parameters"]
    text = edited(yaml.safe_dump(parameters) if parameters else "", "parameters.yaml")
    body = {**of_text(text, "the edited text"), "expected_version": now["version"]}
    change(common, "PUT", body, reason=reason, yes=yes)


def edited(text: str, name: str) -> str:
    """What a person makes of a text."""
    editor = os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / name
        file.write_text(text, encoding="utf-8")
        try:
            ended = subprocess.run([*editor.split(), str(file)], check=False)
        except OSError as error:
            raise OperatorError(f"cannot run {editor}: {error}", "set EDITOR") from error
        if ended.returncode != 0:
            raise OperatorError(f"{editor} ended with {ended.returncode}", "nothing was changed")
        return file.read_text(encoding="utf-8")


@asking
def history(common: Common) -> None:
    """Every version: who, when, why, and which failed."""
    found = common.api().get(f"{PATH}/history")
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    columns = ("version", "at", "author", "reason", "parameters", "failed")
    rows = [
        (
            one["version"],
            one["at"],
            one["author"],
            one["reason"],
            summary(one["postgresql"]),
            f"{one['failed_on']}: {one['failed']}" if one["failed_on"] else one["failed"],
        )
        for one in found["versions"]
    ]
    table(columns, rows, color=common.color)


def summary(said: dict[str, Any]) -> list[str]:
    """What a version says, briefly."""
    found = [
        f"{where}{':' if where else ''}{name}={value}" for where, name, value in everywhere(said)
    ]
    for name in ("hba", "ident"):
        count = len(said[name])
        found += [f"{count} line{'s' if count > 1 else ''} of {name}"] if count else []
    return found


@asking
def confirm(common: Common) -> None:
    """Keep the version that is on trial."""
    found = common.api().post(f"{PATH}/confirm", {})
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    line(f"version {found['version']} stays")


@asking
def rollback(
    common: Common,
    version: Annotated[int, typer.Argument(min=0, help="As `config history` numbers them.")],
    reason: ReasonOption = "",
    yes: YesOption = False,
) -> None:
    """Have again what an older version says."""
    body = {"version": version}
    change(common, "POST", body, reason=reason, yes=yes, path=f"{PATH}/rollback")


def wanted(pairs: list[str] | None, reset: list[str] | None, on: str | None) -> dict[str, Any]:
    """The body of a change of some parameters. on: a role or a node; None: everywhere."""
    found: dict[str, str | None] = dict.fromkeys(reset or [])
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise OperatorError(f"{pair} is not name=value", "as in work_mem=8MB")
        found[name.strip()] = value.strip()
    if not found:
        raise OperatorError("nothing to change", "as in pgherd config set work_mem=8MB")
    if on is None or on in ROLES:
        return {"postgresql": {on or "parameters": found}}
    return {"postgresql": {"nodes": {on: found}}}


def of_file(name: str) -> dict[str, Any]:
    """The body of a file's parameters."""
    return of_text(text_of(name), name)


def text_of(name: str) -> str:
    """What a file says, or standard input for -."""
    try:
        return typer.get_text_stream("stdin").read() if name == "-" else Path(name).read_text()
    except OSError as error:
        raise OperatorError(f"cannot read {name}: {error.strerror}") from error


def of_text(text: str, name: str) -> dict[str, Any]:
    """Parameters as YAML, plain or as in a node's file."""
    import yaml

    try:
        found = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise OperatorError(f"{name} is not YAML: {error}") from error
    if isinstance(found, dict) and isinstance(found.get("postgresql"), dict):
        found = found["postgresql"].get("parameters") or {}
    if not isinstance(found, dict):
        raise OperatorError(f"{name} holds no parameters", "one per line, as in work_mem: 8MB")
    return {"postgresql": {"parameters": {str(one): value for one, value in found.items()}}}


def change(
    common: Common,
    method: str,
    body: dict[str, Any],
    *,
    reason: str,
    yes: bool,
    path: str = PATH,
    trial: str | None = None,
) -> None:
    """Show the plan, ask, and do it."""
    body = {**body, "reason": reason} if reason else body
    body = {**body, "trial": trial} if trial else body
    show_plan(ask(common, method, path, body, dry_run=True))
    agree(yes)
    tell(common, ask(common, method, path, body))
    if trial:
        say(f"  it goes back by itself after {trial}; to keep it: pgherd config confirm")


def ask(
    common: Common, method: str, path: str, body: dict[str, Any], *, dry_run: bool = False
) -> dict[str, Any]:
    """One request; the daemon's own limit ends a little before ours."""
    query = "dry_run=1" if dry_run else f"wait={TOLD_S:g}"
    found: dict[str, Any] = common.api().call(
        method, f"{path}?{query}", body=body, timeout_s=TOLD_S + GRACE_S
    )
    return found


def tell(common: Common, found: dict[str, Any]) -> None:
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    if found["status"] == "planned":
        show_plan(found)
        return
    line(f"version {found['version']}: {found['status']}")
    show_nodes(common, found["nodes"])


def show_plan(found: dict[str, Any]) -> None:
    """The changes, and the steps in their order."""
    if not found["changes"]:
        say(f"plan: nothing changes; version {found['version']} has it already")
        return
    say(f"plan: version {found['version']}")
    for one in found["changes"]:
        runs = f"(runs with {one['running']})" if one["running"] is not None else "(not set)"
        old, new = one["old"] or runs, one["new"] or "(not set)"
        say(f"      {one['name']}: {old} -> {new}, by {one['effect']}")
    for number, one in enumerate(found["steps"], 1):
        say(f"  {number:2}. {one['action']} {one['node']}: {one['why']}")
    for text in found["notes"]:
        say(f"      {text}")
    if any(one["action"] != "reload" for one in found["steps"]):
        say("      restarts are yours to begin; until then it is a pending restart")


COMMANDS: dict[str, Command] = {
    "show": show,
    "set": set_,
    "edit": edit,
    "plan": plan,
    "apply": apply,
    "history": history,
    "rollback": rollback,
    "confirm": confirm,
}
