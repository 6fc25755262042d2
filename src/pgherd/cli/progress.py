"""How far copies, rewinds and recoveries have come: a command, and a bar for those who wait.

Owns the drawing. The figures are the nodes' own.
"""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.output import Format, bar, emit, line, say, size
from pgherd.model.errors import PgherdError

PATH = "/api/v1/progress"
WATCH_S = 1.0
STEP_PERCENT = 10
"""Where no terminal can draw over its last line, one is written this often."""


@asking
def progress(
    common: Common,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Until nothing is under way any more.")
    ] = False,
) -> None:
    """What takes long on the nodes, and how far it has come."""
    while True:
        found = common.api().get(PATH)["progress"]
        if common.output is not Format.TABLE:
            emit(found, common.output)
        for one in found:
            line(shown(one))
        if not found and common.output is Format.TABLE:
            line("nothing is under way")
        if not watch or not found:
            return
        time.sleep(WATCH_S)


def shown(one: dict[str, Any]) -> str:
    """One of them in a line."""
    source = f" from {one['source']}" if one["source"] else ""
    text = f"{one['node']} {one['phase']}{source}"
    if one["percent"] is None:
        return f"{text}: begins"
    text += f" {bar(one['percent'])} {size(one['done_bytes'])} of {size(one['total_bytes'])}"
    if one["bytes_per_second"]:
        text += f", {size(one['bytes_per_second'])}/s"
    left = one["left_seconds"]
    return f"{text}, {left} s left" if left is not None else text


class Progress:
    """The bar of one node, drawn for somebody who waits for it; never the reason of a failure."""

    def __init__(self) -> None:
        self._percent = -1
        self._is_open = False

    def show(self, common: Common, node: str | None) -> None:
        """Ask, and draw what is new."""
        if node is None:
            return
        try:
            found = common.api().get(PATH)["progress"]
        except PgherdError:
            return
        mine = [one for one in found if one["node"] == node and one["percent"] is not None]
        if not mine or mine[0]["percent"] == self._percent:
            return
        percent, text = mine[0]["percent"], shown(mine[0])
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
            self._percent, self._is_open = percent, True
        elif percent // STEP_PERCENT != self._percent // STEP_PERCENT or percent == 100:
            say(text)
            self._percent = percent

    def end(self) -> None:
        """What is written next stands on a line of its own."""
        if self._is_open:
            say("")
            self._is_open = False


COMMANDS: dict[str, Command] = {"progress": progress}
