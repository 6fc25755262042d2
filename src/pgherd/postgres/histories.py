"""The newest history file of timelines in pg_wal: where PostgreSQL says that its timeline begins.

A server writes one at its own promotion, and fetches its upstream's before it follows onto a new
timeline; none is ever deleted. pg_control lags behind what was replayed, this does not. Parsing is
pure; `newest_begins` opens one small file.
"""

from __future__ import annotations

import re
from pathlib import Path

from pgherd.model.ids import Lsn, parse_lsn

NAME = re.compile(r"[0-9A-F]{8}\.history")
FIRST = Lsn(0)
"""The first timeline has no history file."""


def newest_begins(data_dir: Path) -> Lsn:
    """Where the newest timeline begins that this directory knows. Raises OSError."""
    wal = data_dir / "pg_wal"
    found = [entry.name for entry in wal.iterdir() if NAME.fullmatch(entry.name)]
    if not found:
        return FIRST
    return begins((wal / max(found)).read_text(encoding="utf-8", errors="replace"))


def begins(text: str) -> Lsn:
    """The end of the last timeline that a history file lists: there its own begins.

    Raises OSError for a file that is not whole, as one that cannot be read.
    """
    lines = [line.split("#")[0].split() for line in text.splitlines()]
    words = [line for line in lines if line]
    try:
        return parse_lsn(words[-1][1])
    except (IndexError, ValueError) as error:
        raise OSError("a history file without the end of a timeline") from error
