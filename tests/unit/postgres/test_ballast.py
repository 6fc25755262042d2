"""The ballast lies on the disk of the WAL, is whole or not there, is made where there is room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pgherd.postgres import ballast

MB = 1 << 20


@pytest.fixture
def data(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    (made / "pg_wal").mkdir(parents=True)
    return made


def test_it_lies_beside_the_data_or_beside_the_wal(data: Path, tmp_path: Path) -> None:
    """Never in the data directory: a copy for a replica would take it along."""
    assert ballast.place_of(data) == tmp_path / "data.ballast"
    elsewhere = tmp_path / "fast" / "wal"
    elsewhere.mkdir(parents=True)
    (data / "pg_wal").rmdir()
    (data / "pg_wal").symlink_to(elsewhere)
    assert ballast.place_of(data) == tmp_path / "fast" / "wal.ballast"
    assert ballast.place_of(tmp_path / "none") is None


def test_it_takes_its_room_and_gives_it_back(data: Path) -> None:
    path = ballast.place_of(data)
    assert path is not None
    assert ballast.keep(path, 2 * MB) == ""
    seen = path.stat()
    assert (seen.st_size, seen.st_blocks * 512 >= 2 * MB) == (2 * MB, True)
    assert ballast.keep(path, 2 * MB) == ""
    assert path.stat().st_ino == seen.st_ino, "not made anew each time"
    assert ballast.keep(path, MB) == ""
    assert path.stat().st_size == MB, "another wish, another file"
    assert ballast.release(path) == MB
    assert ballast.release(path) == 0
    ballast.keep(path, MB)
    assert ballast.keep(path, 0) == ""
    assert not path.exists()


def test_it_is_made_only_where_there_is_plenty(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would fill the disk itself; people are told."""
    path = ballast.place_of(data)
    room = os.statvfs(data)
    few = [*room]
    few[4] = 3 * MB // room.f_frsize  # f_bavail
    monkeypatch.setattr(ballast.os, "statvfs", lambda _: os.statvfs_result(few))
    assert "less than 4 MB are free" in ballast.keep(path, MB)
    assert list(data.parent.iterdir()) == [data]


def test_a_failure_leaves_no_half_and_is_told(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, offset: int, size: int) -> None:
        os.write(handle, b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ballast.os, "posix_fallocate", full)
    assert "No space left on device" in ballast.keep(ballast.place_of(data), MB)
    assert list(data.parent.iterdir()) == [data]
