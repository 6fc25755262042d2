"""The store's twin in memory, with faults: for the simulator and for tests.

`MemoryDisk` is what survives a crash, `MemoryStore` is a process that has it open. Deterministic:
no thread, no clock, no chance. With `manual_sync` a write is durable only after `sync()`, so that
a simulated crash can come before it; faults are armed on the disk and strike the next write.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from pgherd.store.base import StoreBusy, StoreDamaged, StoreFailed
from pgherd.store.cached import CachedStore
from pgherd.store.image import Change, Image

Fault = Literal["", "error", "full", "torn", "unheard"]
"""error, full: nothing is written, the caller is told. torn: the transaction is cut on its way, so
nothing of it survives. unheard: all of it is durable, but the caller is told that it failed."""


class MemoryDisk:
    """What is durable. Survives crashes of the stores that open it."""

    def __init__(self) -> None:
        self.image = Image()
        self.sequence = 0
        self.acknowledged = 0
        self.opened_by: MemoryStore | None = None
        self.fault: Fault = ""
        self.damage = ""

    def fail_next(self, fault: Fault) -> None:
        """Arm a fault for the next write that reaches the disk."""
        self.fault = fault

    def corrupt(self, what: str = "record fails its CRC") -> None:
        """Flip a bit: the next open finds it."""
        self.damage = what

    def roll_back(self, image: Image, sequence: int) -> None:
        """Lose acknowledged writes (a disk that lied about fsync): the next open finds it."""
        self.image = image.copy()
        self.sequence = sequence


class MemoryStore(CachedStore):
    """A process with the disk open. `crash` ends it; open the disk again to restart."""

    def __init__(self, disk: MemoryDisk, *, manual_sync: bool = False) -> None:
        if disk.opened_by is not None:
            raise StoreBusy("another process uses this store", "stop it first")
        if disk.damage:
            raise StoreDamaged(disk.damage)
        if disk.sequence < disk.acknowledged:
            raise StoreDamaged("transactions that were acknowledged are missing")
        super().__init__(disk.image.copy(), sequence=disk.sequence)
        self.disk = disk
        disk.opened_by = self
        self._manual_sync = manual_sync
        self._unsynced: deque[Change] = deque()

    def sync(self) -> None:
        """With manual_sync: make everything written so far durable, oldest first."""
        while self._unsynced:
            try:
                self._to_disk(self._unsynced.popleft())
            except StoreFailed as error:
                self._failure = error
                self._unsynced.clear()
                raise

    @property
    def unsynced(self) -> int:
        """How many writes a crash would lose now."""
        return len(self._unsynced)

    def crash(self) -> None:
        """End the process at once: writes that were not synced are lost."""
        self._unsynced.clear()
        self.close()

    def close(self) -> None:
        """Release the disk."""
        self._closed = True
        if self.disk.opened_by is self:
            self.disk.opened_by = None

    def _write(self, change: Change) -> None:
        if self._manual_sync:
            self._unsynced.append(change)
        else:
            self._to_disk(change)

    def _to_disk(self, change: Change) -> None:
        fault, self.disk.fault = self.disk.fault, ""
        if fault in ("error", "torn"):
            raise StoreFailed("disk I/O error")
        if fault == "full":
            raise StoreFailed("no space left on device", full=True)
        self.disk.image.apply(change)
        self.disk.sequence += 1
        if fault == "unheard":
            raise StoreFailed("disk I/O error")
        self.disk.acknowledged = self.disk.sequence
        self._durable.append(change)
