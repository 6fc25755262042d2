"""What runs on a server for so long that work on its node should know of it."""

from __future__ import annotations

import msgspec


class Transaction(msgspec.Struct, frozen=True):
    """One that is open for long. state: as pg_stat_activity says; "prepared" for one of two phases,
    whose pid is 0."""

    pid: int
    user: str
    database: str
    state: str
    seconds: int
