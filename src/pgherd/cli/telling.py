"""Commands about what nodes tell, and about their files: logs, log-level, reload.

Owns the following of a log, and the words for what became of a reload. The rest is the API's.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.changing import NoWaitOption, look
from pgherd.cli.output import Format, emit, line, say, table
from pgherd.cli.tending import NodesArgument, ask_one, named
from pgherd.model.errors import OperatorError, PgherdError

FOLLOW_S = 1.0
LEVEL_COLUMNS = ("node", "level", "configured", "seconds_left")


class Level(StrEnum):
    """The least important line told."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class NotTaken(PgherdError):
    """A file had mistakes on one of the nodes, or PostgreSQL refused something of it."""


@asking
def logs(
    common: Common,
    node: NodesArgument = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="And what comes, until Ctrl-C.")
    ] = False,
    postgres: Annotated[bool, typer.Option("--postgres", help="PostgreSQL's log.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=1000)] = 100,
) -> None:
    """The newest log lines of a node; without a name of the one that answers."""
    api = common.api()
    name = named(common, node)["name"] if node is not None else api.get("/api/v1/health")["node"]
    path = f"/api/v1/nodes/{name}/logs"
    source = "postgres" if postgres else "agent"
    found = api.get(path, source=source, lines=lines)
    if common.output is not Format.TABLE and not follow:
        emit(found, common.output)
        return
    show(found)
    while follow:
        time.sleep(FOLLOW_S)
        try:
            found = api.get(path, source=source, lines=1000, cursor=found["cursor"])
        except PgherdError as error:
            say(f"pgherd: {error}")
            continue
        show(found)


def show(found: dict[str, Any]) -> None:
    """Print lines as they are."""
    if found["skipped"]:
        say("... some lines in between are not there any more")
    for one in found["lines"]:
        line(one)


@asking
def log_level(
    common: Common,
    level: Annotated[
        Level | None, typer.Argument(metavar="[LEVEL]", help="Tell from here on; else: show.")
    ] = None,
    node: NodesArgument = None,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="So long only, as 10m.")
    ] = None,
) -> None:
    """Have a node, or all of them, tell more or less than their files say."""
    if level is None and duration is not None:
        raise OperatorError("--for needs a level", "as in pgherd log-level debug --for 10m")
    body = {"level": level.value, **({"for": duration} if duration else {})} if level else None
    api, found = common.api(), []
    for name in names(common, node):
        path = f"/api/v1/nodes/{name}/log-level"
        found.append(api.call("PUT", path, body=body) if body else api.get(path))
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    rows = [tuple(one[column] for column in LEVEL_COLUMNS) for one in found]
    table(LEVEL_COLUMNS, rows, color=common.color)


@asking
def reload(common: Common, node: NodesArgument = None, no_wait: NoWaitOption = False) -> None:
    """Have a node, or all, read their file again, and PostgreSQL there its own files."""
    api, bad = common.api(), []
    for target in targets(common, node):
        name = target["name"]
        try:
            found = api.post(f"/api/v1/nodes/{name}/config/reload")
        except PgherdError as error:
            say(error.message)
            bad.append(name)
            continue
        told(found)
        bad += [name] if found["rejected"] else []
        if target["role"] in ("primary", "replica"):
            ask_one(common, target, "reload", {}, no_wait=no_wait)
    if bad:
        hint = f"pgherd config validate, on {', '.join(bad)}"
        raise NotTaken(f"{', '.join(bad)}: not everything was taken", hint)


def told(found: dict[str, Any]) -> None:
    """What became of each key."""
    node = found["node"]
    for key in found["applied"]:
        say(f"{node}: {key}: applied")
    for key in found["needs_restart"]:
        say(f"{node}: {key}: waits for a restart of this node's daemon")
    for name in found["pending_parameters"]:
        restart = f"pgherd restart {node} --pending"
        say(f"{node}: {name}: waits for a restart of PostgreSQL: {restart}")
    for one in found["rejected"]:
        say(f"{node}: {one['key']}: refused: {one['message']}")
    if not found["changes_detected"]:
        say(f"{node}: its file says what is in force")


def names(common: Common, node: str | None) -> list[str]:
    return [one["name"] for one in targets(common, node)]


def targets(common: Common, node: str | None) -> list[dict[str, Any]]:
    """The node that is named, or all members."""
    if node is not None:
        return [named(common, node)]
    _, members = look(common)
    return members


COMMANDS: dict[str, Command] = {"logs": logs, "log-level": log_level, "reload": reload}
