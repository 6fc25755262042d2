"""The room that a node reports is what its file systems say, and how fast it goes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pgherd.model.ids import Instant
from pgherd.observe import disk
from pgherd.observe.disk import FreeSpace, Growth, disks_of


def room(place: Path) -> int:
    seen = os.statvfs(place)
    return seen.f_bavail * seen.f_frsize


def test_the_disks_of_data_and_wal(tmp_path: Path) -> None:
    """WAL may lie elsewhere by a link; a disk is told of once, one that is not there never."""
    places = {"data": tmp_path, "wal": tmp_path / "pg_wal"}
    assert disks_of({"data": tmp_path / "none"}) == []
    assert [one.mount for one in disks_of(places)] == ["data"]
    near = 64 << 20  # others write here meanwhile
    [data] = disks_of(places)
    assert abs(data.free_bytes - room(tmp_path)) < near
    assert data.free_bytes < data.size_bytes
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    (tmp_path / "pg_wal").symlink_to(shared)
    [_, wal] = disks_of(places)
    assert (wal.mount, abs(wal.free_bytes - room(shared)) < near) == ("wal", True)
    space = FreeSpace(tmp_path)
    asyncio.run(space.look())
    assert [one.mount for one in space.disks] == ["data", "wal"]
    assert space.free_bytes == min(one.free_bytes for one in space.disks)


def test_when_a_disk_is_full_follows_from_the_last_minutes() -> None:
    """Not from a burst of seconds, nor from what was lost before; regained room is no loss."""
    growth = Growth()
    assert growth.full_in_ms(1000, now=Instant(0)) == -1
    assert growth.full_in_ms(700, now=Instant(59_999)) == -1
    assert growth.full_in_ms(400, now=Instant(60_000)) == 40_000
    assert growth.full_in_ms(400, now=Instant(300_000)) == 200_000
    assert growth.full_in_ms(400, now=Instant(360_000)) == -1, "the first loss is long ago"
    assert growth.full_in_ms(900, now=Instant(370_000)) == -1


def test_who_starves_has_no_room_and_a_ballast(tmp_path: Path) -> None:
    """It is made where there is room, and told of where it cannot be."""
    data = tmp_path / "data"
    (data / "pg_wal").mkdir(parents=True)
    space = FreeSpace(data, 1 << 20)
    asyncio.run(space.look())
    assert (space.starves(), space.warnings()) == (False, [])
    space.free_bytes = 1 << 20
    assert space.starves()
    (tmp_path / "data.ballast").unlink()
    too_much = FreeSpace(data, room(tmp_path))
    asyncio.run(too_much.look())
    too_much.free_bytes = 1 << 20
    assert not too_much.starves(), "nothing could be given"
    [warning] = too_much.warnings()
    assert "no ballast is kept" in warning


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
