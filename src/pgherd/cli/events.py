"""`pgherd events`: what happened, and what happens as it does.

Owns the lines that people read and the following over several daemons: a stream that ends is taken
up where it was, at the next daemon that answers. Which events there are is the API's.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.client import Api, ApiError
from pgherd.cli.output import Format, emit, line, say

PATH = "/api/v1/events"
AGAIN_S = 1.0
COLOURS = {"error": "\x1b[31m", "warning": "\x1b[33m", "debug": "\x1b[2m"}
PLAIN = "\x1b[0m"


@asking
def events(
    common: Common,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what happens.")
    ] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="10m, 2026-01-31T23:00Z, or a place.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", help="Only these, as in leader.*; may be repeated."),
    ] = None,
    level: Annotated[str, typer.Option("--level", help="Least important ones shown.")] = "info",
    node: Annotated[str | None, typer.Option("--node", help="By or about this node.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=2000)] = 50,
) -> None:
    """Every decision, action and change, with rule, reason, epoch and duration."""
    wanted = {"kind": kind or [], "level": level}
    if node is not None:
        wanted["node"] = node
    asked: dict[str, Any] = {**wanted, "limit": limit, "follow": "0"}
    if since is not None:
        asked["since"] = since
    found = common.api().get(PATH, **asked)
    if not follow:
        show_all(common, found)
        return
    for one in found["events"]:
        show(common, one)
    for one in ever(common.api(), wanted, place=found["place"]):
        show(common, one)


def show_all(common: Common, found: dict[str, Any]) -> None:
    """The answer, as it was asked for."""
    if common.output is not Format.TABLE:
        emit(found["events"], common.output)
        return
    for one in found["events"]:
        show(common, one)
    if found["lost"]:
        say(f"{found['lost']} older events are not kept any more; each node has its events.jsonl")


def show(common: Common, one: dict[str, Any]) -> None:
    """One event; for programs one object in a line, or one document."""
    if common.output is Format.JSON:
        line(json.dumps(one, ensure_ascii=False))
    elif common.output is Format.YAML:
        line("---")
        emit(one, common.output)
    else:
        line(words(one, color=common.color and sys.stdout.isatty()))


def words(one: dict[str, Any], *, color: bool) -> str:
    """One event for people."""
    if "lost" in one:
        return f"... {one['lost']} events are lost to this reader"
    took = f" ({one['duration_ms']} ms)" if one["duration_ms"] is not None else ""
    rule = f" rule {one['rule']}" if one["rule"] else ""
    who = one["node"] or "-"
    text = f"{one['at']} {one['level']:<7} {who:<6} {one['kind']} epoch {one['epoch']}{rule}"
    text = f"{text}: {one['text']}{took}"
    tint = COLOURS.get(one["level"], "") if color else ""
    return f"{tint}{text}{PLAIN}" if tint else text


def ever(api: Api, wanted: dict[str, Any], *, place: str) -> Iterator[dict[str, Any]]:
    """Events without end; a stream that ends is taken up at whoever answers."""
    while True:
        try:
            with api.stream(PATH, params=wanted, headers={"Last-Event-ID": place}) as lines:
                for kind, data, id in messages(lines):
                    place = id or place
                    if kind == "lost":
                        place = data["place"]
                    if kind:
                        yield data
        except ApiError as error:
            if error.code not in ("unreachable", "timed_out"):
                raise
            say(f"pgherd: {error.message}; trying again")
        time.sleep(AGAIN_S)


def messages(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Server-sent events as (kind, data, place); a place alone has no kind."""
    kind, data, id = "", "", ""
    for text in lines:
        name, _, value = text.partition(": ")
        if not text:
            if data or id:
                yield (kind if data else "", json.loads(data) if data else {}, id)
            kind, data, id = "", "", ""
        elif name == "event":
            kind = value
        elif name == "data":
            data += value
        elif name == "id":
            id = value


COMMANDS: dict[str, Command] = {"events": events}
