"""The history files of timelines in pg_wal: where each began that led to the present one.

PostgreSQL writes one at each promotion, and fetches those of its upstream before it follows onto a
new timeline. Parsing is pure; `read` opens the file, which is small.
"""

from __future__ import annotations

from pathlib import Path

from pgherd.model.branch import FIRST, Fork
from pgherd.model.ids import Lsn, Timeline, parse_lsn


def read(data_dir: Path, timeline: Timeline) -> tuple[Fork, ...]:
    """All timelines up to this one, oldest first; none where the file is not there or damaged."""
    if timeline == FIRST.timeline:
        return (FIRST,)
    try:
        text = (data_dir / "pg_wal" / f"{timeline:08X}.history").read_text(errors="replace")
        return parse(text, timeline)
    except (OSError, ValueError):
        return ()


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
