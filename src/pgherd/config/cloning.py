"""The keys of `postgresql.clone`: how this node's data directory is copied from another one.

Whom it copies is decided by `plan.cloning`; the order of the means is `act.copying`'s.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import field_validator

from pgherd.config.fields import Bytes, Change, Key, Program
from pgherd.config.problems import Wrong
from pgherd.config.section import Section

RATE_BYTES_LEAST = 32 << 10
RATE_BYTES_MOST = 1 << 30
"""PostgreSQL's documentation, pg_basebackup: --max-rate."""


class Clone(Section):
    """How a new copy of the data directory is made."""

    max_rate_bytes: Annotated[
        Bytes,
        Key(
            "Most that a copy by pg_basebackup takes from its source in a second; 0B: no limit. In"
            " force from the next copy on.",
            Change.LIVE,
            unit="size",
            least=0,
            why="0B is no limit; pg_basebackup itself takes one from 32kB to 1GB",
        ),
    ] = 0
    command: Annotated[
        Program,
        Key(
            "Program and first arguments that make the copy instead, as from a backup; an empty"
            " directory to fill, the source's connection string and its name follow them, and stand"
            " in PGHERD_CLONE_DIRECTORY, _SOURCE and _NODE. It runs as PostgreSQL's user. Where it"
            " fails, or what it made cannot follow, pg_basebackup does it.",
            Change.LIVE,
        ),
    ] = ()

    @field_validator("max_rate_bytes", mode="after")
    @classmethod
    def _rate(cls, value: int) -> int:
        if value and not RATE_BYTES_LEAST <= value <= RATE_BYTES_MOST:
            raise Wrong(f"{value}B in a second is out of range", "write 0B, or 32kB to 1GB")
        return value
