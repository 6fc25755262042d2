"""How much room the server's file systems still have, and what rebuilds have left there.

Asked now and then, off the loop: a disk that hangs holds one thread, and the last answer stays.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from pgherd.postgres.clone import kept_copies
from pgherd.telemetry.boottime import now_ms

EVERY_MS = 5000
UNKNOWN = -1
KEPT_MANY = 2


class FreeSpace:
    """Keeps the least of what an ordinary user may fill where data and WAL lie.

    free_bytes: -1 until it is known · kept: the names of data directories of before a rebuild.
    """

    def __init__(self, data_dir: Path) -> None:
        self.free_bytes = UNKNOWN
        self.kept: tuple[str, ...] = ()
        self._data_dir = data_dir
        self._places = (data_dir, data_dir / "pg_wal")
        self._asked_at = now_ms() - EVERY_MS
        self._asking: asyncio.Task[None] | None = None

    def look_if_due(self) -> None:
        """Ask in the background, unless the last question is young or still open."""
        now = now_ms()
        is_open = self._asking is not None and not self._asking.done()
        if is_open or now - self._asked_at < EVERY_MS:
            return
        self._asked_at = now
        self._asking = asyncio.create_task(self.look(), name="free-space")

    async def look(self) -> None:
        """Ask now."""
        self.free_bytes = await asyncio.to_thread(free_bytes, self._places)
        kept = await asyncio.to_thread(kept_copies, self._data_dir)
        self.kept = tuple(path.name for path in kept)

    def warnings(self) -> list[str]:
        """That copies pile up: one is always kept, more only where nobody knows what they hold."""
        if len(self.kept) < KEPT_MANY:
            return []
        return [
            f"{len(self.kept)} earlier data directories take room in {self._data_dir.parent}"
            f" ({', '.join(self.kept)}): each may have what is nowhere else; look at them, and"
            " delete those that nobody needs"
        ]


def free_bytes(places: tuple[Path, ...]) -> int:
    """The least room of these directories; -1 where none exists. Blocks as long as a disk hangs."""
    found = []
    for place in places:
        try:
            seen = os.statvfs(place)
        except OSError:
            continue
        found.append(seen.f_bavail * seen.f_frsize)
    return min(found, default=UNKNOWN)
