"""Prove what the store does when the device below it fails: real EIO on a real file system.

An ext4 image on a loop device lies in a tmpfs that has no room left for it: what the kernel can
then not write it reports as an I/O error, at the fsync. Needs root and loop devices.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgherd.raft.types import Entry
from pgherd.store.base import StoreFailed
from pgherd.store.sqlite import SqliteStore

IMAGE_MB = 16


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)


class Device:
    """A file system whose device can be made to fail, and replaced by a good one."""

    def __init__(self, place: Path) -> None:
        self._below, self.path = place / "below", place / "disk"
        self._image, self._ballast = self._below / "image", self._below / "ballast"
        self._below.mkdir()
        self.path.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={IMAGE_MB + 4}m", "tmpfs", str(self._below))
        with self._image.open("wb") as file:
            file.truncate(IMAGE_MB << 20)
        run("mkfs.ext4", "-q", "-m", "0", str(self._image))
        self._mount()

    def _mount(self) -> None:
        run("mount", "-o", "loop", str(self._image), str(self.path))

    def fail(self) -> None:
        with self._ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def repair(self) -> None:
        """What an operator does with what can still be read."""
        self._ballast.unlink()
        run("umount", str(self.path))
        subprocess.run(("e2fsck", "-fy", str(self._image)), check=False, capture_output=True)
        self._mount()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    made = None
    try:
        made = Device(tmp_path)
        yield made
    except (OSError, subprocess.CalledProcessError) as error:
        if made is not None:
            raise
        pytest.skip(f"no file system can be mounted here: {error}")
    finally:
        for place in ("disk", "below"):
            subprocess.run(
                ("umount", "-l", str(tmp_path / place)), check=False, capture_output=True
            )


def entry(index: int) -> Entry:
    return Entry(term=1, index=index, data=b"x" * 1000)


def save_entries(store: SqliteStore, done: list[int], *, last: int) -> None:
    """Append entries one by one, and note each that was acknowledged."""
    for index in range(len(done) + 1, last + 1):
        store.save(entries=[entry(index)])
        done.append(index)


@pytest.mark.fault(44)
def test_a_failed_fsync_is_never_written_over(device: Device) -> None:
    """What was acknowledged is there afterwards, in order; nothing came after the failure."""
    store = SqliteStore(device.path / "raft")
    done: list[int] = []
    save_entries(store, done, last=30)
    device.fail()
    with pytest.raises(StoreFailed, match="I/O error") as failed:
        save_entries(store, done, last=2000)
    assert not failed.value.full, "it does not go away by itself"
    assert "check the disk" in failed.value.hint
    for _ in range(2):
        with pytest.raises(StoreFailed, match="stopped after"):
            store.save(entries=[entry(len(done) + 1)])
    store.close()
    with pytest.raises(StoreFailed):
        SqliteStore(device.path / "raft")
    device.repair()
    again = SqliteStore(device.path / "raft")
    assert again.last_index() >= len(done)
    assert [one.index for one in again.entries(1, len(done) + 1, None)] == done
    assert again.last_index() <= len(done) + 1, "at most the one that was not acknowledged"
    again.close()
