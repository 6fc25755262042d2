"""Prove that the twin in memory loses, refuses and notices what the simulator asks it to."""

from __future__ import annotations

import pytest

from pgherd.raft.types import Entry, Hard
from pgherd.store.base import StoreDamaged, StoreFailed
from pgherd.store.memory import MemoryDisk, MemoryStore


@pytest.mark.fault(51)
def test_a_crash_loses_exactly_what_was_not_synced() -> None:
    """With manual_sync the order is write, sync, remember; a crash before sync takes it back."""
    disk = MemoryDisk()
    store = MemoryStore(disk, manual_sync=True)
    store.save(hard=Hard(1, 1, 0), entries=[Entry(1, 1)])
    store.remember()
    assert store.last_index() == 0
    store.sync()
    store.remember()
    assert store.last_index() == 1
    store.save(entries=[Entry(1, 2)])
    store.save(entries=[Entry(1, 3)])
    assert store.unsynced == 2
    store.crash()
    assert MemoryStore(disk).last_index() == 1


@pytest.mark.parametrize(
    ("fault", "last"), [("error", 0), ("full", 0), ("torn", 0), ("unheard", 1)]
)
def test_armed_faults_strike_once_and_end_the_store(fault: str, last: int) -> None:
    """Only "unheard" leaves the write behind; opened again, the store works."""
    disk = MemoryDisk()
    store = MemoryStore(disk)
    disk.fail_next(fault)  # type: ignore[arg-type]
    with pytest.raises(StoreFailed) as failed:
        store.save(entries=[Entry(1, 1)])
    assert failed.value.full == (fault == "full")
    store.crash()
    store = MemoryStore(disk)
    assert store.last_index() == last
    store.save(entries=[Entry(1, last + 1)])


def test_a_fault_at_sync_time_ends_the_store() -> None:
    """What was queued behind the failed write is not written either."""
    disk = MemoryDisk()
    store = MemoryStore(disk, manual_sync=True)
    store.save(entries=[Entry(1, 1)])
    store.save(entries=[Entry(1, 2)])
    disk.fail_next("error")
    with pytest.raises(StoreFailed):
        store.sync()
    with pytest.raises(StoreFailed, match="stopped after"):
        store.save(entries=[Entry(1, 3)])
    store.crash()
    assert MemoryStore(disk).last_index() == 0


def test_damage_and_lost_writes_are_noticed_at_open() -> None:
    """A flipped bit, and a disk that lied about fsync, are amnesia as they are on a real disk."""
    disk = MemoryDisk()
    store = MemoryStore(disk)
    old, sequence = disk.image.copy(), disk.sequence
    store.save(entries=[Entry(1, 1)])
    store.crash()
    disk.roll_back(old, sequence)
    with pytest.raises(StoreDamaged, match="missing"):
        MemoryStore(disk)
    disk = MemoryDisk()
    disk.corrupt()
    with pytest.raises(StoreDamaged, match="CRC"):
        MemoryStore(disk)
