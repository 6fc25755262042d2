"""What is asked of a node about its log lines, and what it answers."""

from __future__ import annotations

from enum import StrEnum

import msgspec

LINES_MAX = 1000
BYTES_MAX = 48 << 10
"""Of one answer: it goes through the peer channel, beside heartbeats."""


class Source(StrEnum):
    """Whose lines."""

    AGENT = "agent"
    POSTGRES = "postgres"


class LogAsked(msgspec.Struct, frozen=True):
    """The newest lines, or, with the cursor of an answer, what came since. lines: at most."""

    source: Source = Source.AGENT
    lines: int = 100
    cursor: str = ""


class LogTold(msgspec.Struct, frozen=True):
    """Lines, oldest first. cursor: where to go on · skipped: some in between are not there."""

    lines: tuple[str, ...]
    cursor: str
    skipped: bool = False


class LevelWish(msgspec.Struct, frozen=True):
    """Tell from this level on. for_ms: then as the file says again; 0: until the next reload."""

    level: str
    for_ms: int = 0
    requested_by: str = ""


class LevelNow(msgspec.Struct, frozen=True):
    """What is told now, and what the file says."""

    level: str
    configured: str
    left_ms: int = 0
