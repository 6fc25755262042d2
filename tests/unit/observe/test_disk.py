"""The room that a node reports is what its file systems say, the lesser of data and WAL."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pgherd.observe import disk
from pgherd.observe.disk import FreeSpace, free_bytes


def room(place: Path) -> int:
    seen = os.statvfs(place)
    return seen.f_bavail * seen.f_frsize


def test_the_lesser_of_data_and_wal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WAL may lie elsewhere by a link; what is not there says nothing."""
    assert free_bytes((tmp_path / "none",)) == -1
    shared = Path("/dev/shm")
    if not shared.is_dir():  # another file system where there is one
        shared = tmp_path / "wal"
        shared.mkdir()
    (tmp_path / "pg_wal").symlink_to(shared)
    found = free_bytes((tmp_path, tmp_path / "pg_wal"))
    near = 64 << 20  # others write here meanwhile
    assert abs(found - min(room(tmp_path), room(shared))) < near
    seen: list[Path] = []
    real = os.statvfs
    monkeypatch.setattr(disk.os, "statvfs", lambda place: seen.append(place) or real(place))
    free_bytes((tmp_path, tmp_path / "pg_wal"))
    assert seen == [tmp_path, tmp_path / "pg_wal"]


def test_a_disk_that_hangs_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a question is open no other is asked, and the loop goes on."""
    asked: list[int] = []

    async def never(self: FreeSpace) -> None:
        asked.append(1)
        await asyncio.Event().wait()

    async def story() -> None:
        space = FreeSpace(tmp_path)
        monkeypatch.setattr(FreeSpace, "look", never)
        monkeypatch.setattr(disk, "EVERY_MS", 0)
        for _ in range(3):
            space.look_if_due()
            await asyncio.sleep(0)
        assert space.free_bytes == -1

    asyncio.run(story())
    assert asked == [1]


def test_it_is_asked_off_the_loop_and_kept(tmp_path: Path) -> None:
    """The first look comes at once, the next not before some seconds."""

    async def story() -> None:
        space = FreeSpace(tmp_path)
        space.look_if_due()
        assert space._asking is not None
        await space._asking
        known, space.free_bytes = space.free_bytes, 7
        space.look_if_due()
        await asyncio.sleep(0.05)
        assert (known > 7, space.free_bytes) == (True, 7)

    asyncio.run(story())


def test_copies_that_pile_up_are_told_of(tmp_path: Path) -> None:
    """One is kept after every rebuild; a second one waits for a person."""
    data = tmp_path / "data"
    space = FreeSpace(data)
    for number, told in ((1, 0), (2, 1)):
        (tmp_path / f"data.old-{number}").mkdir()
        asyncio.run(space.look())
        assert len(space.warnings()) == told
    [warning] = space.warnings()
    assert "data.old-1, data.old-2" in warning
    assert str(tmp_path) in warning
