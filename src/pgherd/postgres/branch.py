"""The history files of timelines in pg_wal: where each began that led to the present one.

PostgreSQL writes one at each promotion, and fetches those of its upstream before it follows onto a
new timeline; none is ever deleted. Parsing is pure; the others open one file, which is small.
"""

from __future__ import annotations

import re
from pathlib import Path

from pgherd.model.branch import FIRST, Fork
from pgherd.model.ids import Lsn, Timeline, parse_lsn

NAME = re.compile(r"([0-9A-F]{8})\.history")


def read(data_dir: Path, timeline: Timeline) -> tuple[Fork, ...]:
    """All timelines up to this one, oldest first; none where the file is not there or damaged."""
    if timeline == FIRST.timeline:
        return (FIRST,)
    try:
        return _of_file(data_dir, timeline)
    except (OSError, ValueError):
        return ()


def newest_begins(data_dir: Path) -> Lsn:
    """Where the newest timeline begins that this directory knows; raises OSError.

    pg_control lags behind what was replayed, the files do not. One that is not whole is as one that
    cannot be read.
    """
    last = newest(data_dir)
    if last == FIRST.timeline:
        return FIRST.begins
    try:
        return _of_file(data_dir, last)[-1].begins
    except ValueError as error:
        raise OSError("a history file without the end of a timeline") from error


def newest(data_dir: Path) -> Timeline:
    """The newest timeline that this directory has a history file of; raises OSError."""
    names = [NAME.fullmatch(entry.name) for entry in (data_dir / "pg_wal").iterdir()]
    return Timeline(max((int(name[1], 16) for name in names if name), default=FIRST.timeline))


def _of_file(data_dir: Path, timeline: Timeline) -> tuple[Fork, ...]:
    text = (data_dir / "pg_wal" / f"{timeline:08X}.history").read_text(errors="replace")
    return parse(text, timeline)


def parse(text: str, timeline: Timeline) -> tuple[Fork, ...]:
    """Read a history file: of each earlier timeline its number and where it was left."""
    found, begins = [], Lsn(0)
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) < 2:
            raise ValueError(f"no timeline and its end: {line}")
        found.append(Fork(Timeline(int(words[0])), begins))
        begins = parse_lsn(words[1])
    if not found:
        raise ValueError("an empty history file")
    return (*found, Fork(timeline, begins))
