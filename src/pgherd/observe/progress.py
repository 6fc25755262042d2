"""Whether a primary's WAL becomes durable, judged by looks alone.

Pure: no clock is read and nothing is written to the server. A server whose WAL device has frozen
still answers reads, so what shows it is that sessions wait for the device while the end of the
durable WAL stands still. One that is idle has nobody waiting; waits for standbys, for locks or for
a slow disk let it move.
"""

from __future__ import annotations

from pgherd.model.ids import Instant, Lsn
from pgherd.model.pace import LOOK_MS

STEP_MS_MAX = 2 * LOOK_MS
"""What one look may add: looks that are further apart saw nothing of the time between."""


class WriteProgress:
    """For how long the end of the durable WAL has stood still under sessions that wait for it."""

    def __init__(self) -> None:
        self.stalled_ms = 0
        self._flush = Lsn(0)
        self._seen_at = Instant(0)

    def stands_still(self, *, flush: Lsn, insert: Lsn) -> bool:
        """Whether it is worth asking who waits: the end is where it was, and more is to come."""
        return flush == self._flush and insert > flush

    def moved(self, flush: Lsn, *, now: Instant) -> None:
        """There is nothing to wonder about now."""
        self.stalled_ms, self._flush, self._seen_at = 0, flush, now

    def waits(self, sessions: int, *, now: Instant) -> int:
        """So many processes wait for WAL to be written; for how long that has been so."""
        if sessions:
            self.stalled_ms += min(now - self._seen_at, STEP_MS_MAX)
        else:
            self.stalled_ms = 0
        self._seen_at = now
        return self.stalled_ms
