"""How long a server will go on replaying its own WAL: bytes left, and the speed seen so far.

Owns one recovery of one postmaster: the end is looked for once, then only where it is. `estimate`
is pure.
"""

from __future__ import annotations

import asyncio

from pgherd.model.ids import Instant, Lsn
from pgherd.model.observation import Recovery
from pgherd.postgres import recovery
from pgherd.postgres.pgcontrol import ControlData
from pgherd.postgres.server import PostgresServer
from pgherd.telemetry.boottime import now_ms

EVERY_MS = 1000


def estimate(*, redo: Lsn, end: Lsn, first: tuple[Lsn, Instant], at: Lsn, now: Instant) -> Recovery:
    """What is left. first: where it was when it was first seen, and when that was."""
    left = max(0, end - at)
    done, took = at - first[0], now - first[1]
    left_ms = left * took // done if done > 0 and took > 0 else -1
    return Recovery(total_bytes=max(0, end - redo), left_bytes=left, left_ms=left_ms)


class Recovering:
    """The recovery of the server that starts now."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._pid = 0
        self._end = Lsn(0)
        self._first: tuple[Lsn, Instant] | None = None
        self._seen: Recovery | None = None
        self._seen_at = Instant(0)

    async def look(self) -> Recovery | None:
        """Look if a second has gone by; None while nothing is known."""
        control, now = self._server.control, now_ms()
        if control is None or control.clean:
            return None
        if self._pid != self._server.pid:
            self._pid, self._first, self._seen, self._seen_at = self._server.pid, None, None, now
            return None  # most starts are over within a second, and cost nothing here
        if now - self._seen_at >= EVERY_MS:
            self._seen_at = now
            self._seen = await self._read(control, now)
        return self._seen

    async def _read(self, control: ControlData, now: Instant) -> Recovery | None:
        place, size = self._server.data_dir, control.wal_segment_bytes
        if self._first is None:
            self._end = await asyncio.to_thread(
                recovery.wal_end, place, start=control.redo, segment_bytes=size
            )
        at = await asyncio.to_thread(recovery.replaying, place, segment_bytes=size)
        if at is None:
            return self._seen
        at = max(at, control.redo)
        self._first = self._first or (at, now)
        return estimate(redo=control.redo, end=self._end, first=self._first, at=at, now=now)
