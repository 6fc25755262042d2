"""What a running server has of its parameters: those that standbys must match, and what waits.

One statement, beside the check of what safety rests on. What PostgreSQL does not report as pending,
because the command line set it, is compared with what the next start would pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import LiteralString

import msgspec

from pgherd.model.pgconfig import MATCHED, Pending, Running
from pgherd.postgres.lowering import NO_HOT_STANDBY
from pgherd.postgres.session import Session
from pgherd.postgres.settings import AT_LEAST
from pgherd.wire.query import Row

PASSED = ("wal_level", *AT_LEAST)
"""On the command line, of the operator's choice, and not our own session's to change."""

VERSION, PRELOADS = "server_version_num", "shared_preload_libraries"

APPLIED_SQL: LiteralString = """
SELECT name, setting, current_setting(name), pending_restart AND (setting <> boot_val
  OR EXISTS (SELECT FROM pg_file_settings f WHERE lower(f.name) = lower(s.name)))
FROM pg_settings s WHERE pending_restart OR name = ANY($1) ORDER BY name
"""
"""A parameter that was to change and left the file again goes on being pending in pg_settings."""
UNUSABLE_SQL: LiteralString = """
SELECT f.name, f.error FROM pg_file_settings f LEFT JOIN pg_settings s ON s.name = lower(f.name)
WHERE f.error IS NOT NULL AND NOT coalesce(s.pending_restart, false)
"""


DEFAULT = "PostgreSQL's default"


class Applied(msgspec.Struct, frozen=True):
    """matched: of `pgconfig.MATCHED`, in that order · pending: what waits for a restart.

    version: server_version_num, 0 before it was asked · preloads: what the next start loads.
    """

    matched: Running = ()
    pending: tuple[Pending, ...] = ()
    version: int = 0
    preloads: tuple[str, ...] = ()


async def look(session: Session, wanted: dict[str, str]) -> Applied:
    """Ask a server. wanted: what its file and its next command line say."""
    rows = await session.rows(APPLIED_SQL, [[*MATCHED, *PASSED, VERSION, PRELOADS]], again=True)
    return read(rows, wanted)


def read(rows: Iterable[Row], wanted: dict[str, str]) -> Applied:
    """Make an Applied from rows of APPLIED_SQL."""
    settings: dict[str, str] = {}
    pending: list[Pending] = []
    for name, setting, shown, waits in rows:
        settings[name] = setting
        differs = name in PASSED and name in wanted and wanted[name] != setting
        if (waits and name not in NO_HOT_STANDBY) or differs:
            pending.append(Pending(name, shown, wanted.get(name, DEFAULT)))
    loads = next((one.new for one in pending if one.name == PRELOADS), settings.get(PRELOADS, ""))
    return Applied(
        matched=tuple(int(settings[name]) for name in MATCHED),
        pending=tuple(pending),
        version=int(settings.get(VERSION, 0)),
        preloads=names_of(loads) if loads != DEFAULT else (),
    )


def names_of(text: str) -> tuple[str, ...]:
    """The names in a list of libraries, as PostgreSQL writes it."""
    return tuple(name for part in text.split(",") if (name := part.strip().strip('"')))


async def unusable(session: Session) -> str:
    """What the server cannot use of its files, in its own words; "" when there is nothing."""
    rows = await session.rows(UNUSABLE_SQL)
    return "; ".join(f"{name}: {error}" if name else str(error) for name, error in rows)
