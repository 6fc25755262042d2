"""The timelines of one data directory, as PostgreSQL itself keeps account of them."""

from __future__ import annotations

import msgspec

from pgherd.model.ids import Lsn, Timeline, format_lsn


class Fork(msgspec.Struct, frozen=True):
    """Where a timeline begins: at the end of what was replayed when a server was promoted."""

    timeline: Timeline
    begins: Lsn


FIRST = Fork(Timeline(1), Lsn(0))
"""What initdb makes; it has no history file."""


def describe(stray: Fork) -> str:
    """A timeline that no term opened, for people."""
    return f"its timeline {stray.timeline}, from {format_lsn(stray.begins)} on, is of no term"
