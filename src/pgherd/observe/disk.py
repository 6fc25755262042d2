"""How much room the server's file systems still have, how fast it goes, and what rebuilds left.

Asked now and then, off the loop: a disk that hangs holds one thread, and the last answer stays.
The ballast is kept here too: it is made when there is room, and only a rule gives it away.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from pathlib import Path

import msgspec

from pgherd.model.ids import Instant
from pgherd.model.observation import Disk
from pgherd.postgres import ballast
from pgherd.postgres.clone import kept_copies
from pgherd.telemetry.boottime import now_ms

EVERY_MS = 5000
UNKNOWN = -1
KEPT_MANY = 2
WINDOW_MS = 300_000
SPAN_LEAST_MS = 60_000
"""A shorter look takes one checkpoint's burst for the life of the server."""

STARVED_BYTES = 32 << 20
"""Two segments of WAL: with less a server cannot end its recovery."""


class Growth:
    """How fast one file system fills: the room it had minutes ago, and has now."""

    def __init__(self) -> None:
        self._seen: deque[tuple[Instant, int]] = deque()

    def full_in_ms(self, free_bytes: int, *, now: Instant) -> int:
        """When nothing is left, at the speed of the last minutes; -1 while nothing is lost."""
        self._seen.append((now, free_bytes))
        while now - self._seen[0][0] > WINDOW_MS:
            self._seen.popleft()
        since, had = self._seen[0]
        lost = had - free_bytes
        if now - since < SPAN_LEAST_MS or lost <= 0:
            return UNKNOWN
        return free_bytes * (now - since) // lost


class FreeSpace:
    """Keeps what an ordinary user may fill where data and WAL lie.

    free_bytes: the least, -1 until it is known · kept: the names of data directories of before a
    rebuild · ballast_bytes: the size of the file to keep, 0 none.
    """

    def __init__(self, data_dir: Path, ballast_bytes: int = 0) -> None:
        self.free_bytes = UNKNOWN
        self.disks: tuple[Disk, ...] = ()
        self.kept: tuple[str, ...] = ()
        self._ballast_bytes = ballast_bytes
        self._ballast_problem = ""
        self._has_ballast = False
        self._growth: dict[str, Growth] = {}
        self._data_dir = data_dir
        self._places = {"data": data_dir, "wal": data_dir / "pg_wal"}
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
        found = await asyncio.to_thread(disks_of, self._places)
        self.disks = tuple(self._with_growth(disk, now_ms()) for disk in found)
        self.free_bytes = min((disk.free_bytes for disk in found), default=UNKNOWN)
        kept = await asyncio.to_thread(kept_copies, self._data_dir)
        self.kept = tuple(path.name for path in kept)
        await asyncio.to_thread(self._keep_ballast)

    def starves(self) -> bool:
        """Whether a server could not start here for want of room, and the ballast has some."""
        return 0 <= self.free_bytes < STARVED_BYTES and self._has_ballast

    def warnings(self) -> list[str]:
        """What people should mend: a ballast that is gone, copies that pile up.

        One copy is always kept, more only where nobody knows what they hold.
        """
        said = [self._ballast_problem] if self._ballast_problem else []
        if len(self.kept) >= KEPT_MANY:
            said.append(
                f"{len(self.kept)} earlier data directories take room in {self._data_dir.parent}"
                f" ({', '.join(self.kept)}): each may have what is nowhere else; look at them, and"
                " delete those that nobody needs"
            )
        return said

    def _with_growth(self, disk: Disk, now: Instant) -> Disk:
        growth = self._growth.setdefault(disk.mount, Growth())
        return msgspec.structs.replace(disk, full_in_ms=growth.full_in_ms(disk.free_bytes, now=now))

    def _keep_ballast(self) -> None:
        """Not before there is a server: where would its WAL lie? Blocks as long as a disk does."""
        if not self._places["wal"].exists():
            return
        path = ballast.place_of(self._data_dir)
        self._ballast_problem = ballast.keep(path, self._ballast_bytes)
        self._has_ballast = path is not None and path.exists()


def disks_of(places: dict[str, Path]) -> list[Disk]:
    """The file systems of these directories, each once. Blocks as long as a disk hangs."""
    found: dict[int, Disk] = {}
    for mount, place in places.items():
        try:
            device, seen = place.stat().st_dev, os.statvfs(place)
        except OSError:
            continue
        block = seen.f_frsize
        found.setdefault(device, Disk(mount, seen.f_bavail * block, seen.f_blocks * block))
    return list(found.values())
