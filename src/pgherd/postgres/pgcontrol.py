"""What pg_control says of a data directory, read through pg_controldata without a server.

Parsing is pure; `read` runs the program.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from pgherd.model.errors import PostgresError
from pgherd.model.ids import Lsn, Timeline, parse_lsn
from pgherd.postgres.identity import PostgresUser
from pgherd.postgres.tools import run_tool

SHUT_DOWN = "shut down"
SHUT_DOWN_IN_RECOVERY = "shut down in recovery"
PRIMARY_STATES = (SHUT_DOWN, "shutting down", "in production")
READ_TIMEOUT_S = 10.0
ATTEMPTS = 3
AGAIN_AFTER_S = 0.02
DEMANDED = {
    "max_connections": "max_connections setting",
    "max_worker_processes": "max_worker_processes setting",
    "max_wal_senders": "max_wal_senders setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
}
"""PostgreSQL's documentation, hot standby: "Administrator's Overview"."""


class ControlData(msgspec.Struct, frozen=True):
    """The fields of pg_control that decisions rest on.

    state: PostgreSQL's own words, e.g. "in production" · checkpoint, redo = of the last checkpoint
    · min_recovery_end = a standby is consistent from here on; 0 when it was a primary ·
    backup_start = where a base backup or a rewind began whose end has not been replayed yet; else 0
    · demanded = parameters a standby needs at least this much of, since its primary had so much ·
    mock_nonce = in hex, the same on all copies: what users without a password are asked is made of
    it.
    """

    system_id: str
    state: str
    timeline: Timeline
    checkpoint: Lsn
    redo: Lsn
    min_recovery_end: Lsn
    min_recovery_timeline: Timeline
    backup_start: Lsn
    checksums: bool
    wal_log_hints: bool
    wal_segment_bytes: int
    demanded: dict[str, int] = {}
    mock_nonce: str = ""

    @property
    def clean(self) -> bool:
        """Whether the server that ran here last was shut down in order."""
        return self.state in (SHUT_DOWN, SHUT_DOWN_IN_RECOVERY)

    @property
    def was_primary(self) -> bool:
        """Whether the server that ran here last was out of recovery."""
        return self.state in PRIMARY_STATES


def parse(text: str) -> ControlData:
    """Read the output of pg_controldata under LC_ALL=C."""
    warnings = [line.strip() for line in text.splitlines() if "warning:" in line.lower()]
    if warnings:
        raise PostgresError(f"pg_control is damaged: {warnings[0]}")
    pairs = (line.partition(":") for line in text.splitlines())
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    try:
        return ControlData(
            system_id=fields["Database system identifier"],
            state=fields["Database cluster state"],
            timeline=Timeline(int(fields["Latest checkpoint's TimeLineID"])),
            checkpoint=parse_lsn(fields["Latest checkpoint location"]),
            redo=parse_lsn(fields["Latest checkpoint's REDO location"]),
            min_recovery_end=parse_lsn(fields["Minimum recovery ending location"]),
            min_recovery_timeline=Timeline(int(fields["Min recovery ending loc's timeline"])),
            backup_start=parse_lsn(fields["Backup start location"]),
            checksums=fields["Data page checksum version"] != "0",
            wal_log_hints=fields["wal_log_hints setting"] == "on",
            wal_segment_bytes=int(fields["Bytes per WAL segment"]),
            demanded={name: int(fields[words]) for name, words in DEMANDED.items()},
            mock_nonce=fields.get("Mock authentication nonce", ""),
        )
    except (KeyError, ValueError) as error:
        raise PostgresError(f"pg_controldata said something unexpected: {error}") from error


async def read(bin_dir: Path, data_dir: Path, *, user: PostgresUser | None) -> ControlData:
    """Read a data directory's pg_control; again if a running server was just writing it."""
    argv = [str(bin_dir / "pg_controldata"), "-D", str(data_dir)]
    for attempt in range(ATTEMPTS):
        result = await run_tool(argv, user=user, timeout_s=READ_TIMEOUT_S)
        try:
            if result.code != 0:
                raise PostgresError(f"pg_controldata {data_dir}: {result.last_words()}")
            return parse(result.out + result.err)
        except PostgresError:
            if attempt == ATTEMPTS - 1:
                raise
        await asyncio.sleep(AGAIN_AFTER_S)
    raise AssertionError("the last attempt returns or raises")
