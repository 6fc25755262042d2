"""How answers look: tables for people, JSON and YAML for programs.

Owns standard output and standard error. Data goes to the first, everything else to the second.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

PIPE_WIDTH = 200
BAR_WIDTH = 20


class Format(StrEnum):
    """Forms of an answer."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def emit(value: Any, form: Format) -> None:
    """Write data for programs."""
    if form is Format.YAML:
        import yaml

        text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    else:
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    sys.stdout.write(text)
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, color: bool = True) -> None:
    """Write a table for people."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(word(cell), style=style_of(cell)) for cell in row))
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(file=sys.stdout, no_color=not color, highlight=False, width=width)
    console.print(shown)


def word(cell: Any) -> str:
    """A value as people read it."""
    if cell is None or cell == "":
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, list | tuple):
        return ", ".join(word(each) for each in cell) or "-"
    return str(cell)


GOOD = ("operational", "running", "streaming", "normal", "primary")
BAD = ("down", "unreachable", "hung", "unusable", "stopped", "closed", "stuck", "diverged")


def style_of(cell: Any) -> str:
    if not isinstance(cell, str):
        return ""
    return "green" if cell in GOOD else "red" if cell in BAD else ""


def size(count: int | None) -> str:
    """Bytes as people read them."""
    if count is None:
        return "-"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TB"


def bar(percent: int) -> str:
    """How far something has come, drawn."""
    full = BAR_WIDTH * min(max(percent, 0), 100) // 100
    return f"[{'#' * full}{'.' * (BAR_WIDTH - full)}] {percent} %"


def line(text: str = "") -> None:
    """Write one line of data."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Write one line of talk."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
