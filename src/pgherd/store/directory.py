"""The store's directory: made with its lock, and the mark file beside the database.

Owns the lock file (one process at a time), the mark, and the question whether there is room to
work at all. Leaves the database to `sqlite`.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from pgherd.store import codec
from pgherd.store.base import StoreBusy, StoreFailed, StoreUnusable
from pgherd.store.codec import MARK_SLOT_BYTES, Mark

MARK_SLOTS = 2
ROOM_BYTES_MIN = 4 * 1024 * 1024
"""A start needs this much: with less it would take part until its first writes fail, and again."""
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
DISK_FAILS = NO_ROOM | {errno.EIO, errno.EROFS}
"""Troubles of the disk that may pass: worth another start, unlike wrong permissions."""


class StoreDirectory:
    """An exclusively held directory. Raises StoreBusy when another process holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "store.sqlite"
        self._lock = -1
        self._mark = -1
        try:
            make_directory(path)
            self._lock = take_lock(path / "lock")
            self._mark = open_mark(path / "acknowledged")
            require_room(path)
        except StoreFailed:
            self.close()
            raise
        except OSError as error:
            self.close()
            if error.errno in DISK_FAILS:
                full = error.errno in NO_ROOM
                raise StoreFailed(f"{path}: {error.strerror}", full=full) from error
            hint = "check owner, permissions and the mount of this directory"
            raise StoreUnusable(f"cannot use {path}: {error.strerror or error}", hint) from error

    def read_mark(self) -> Mark:
        """The newest transaction known to be durable, as far as the file tells."""
        return codec.decode_mark(os.pread(self._mark, MARK_SLOTS * MARK_SLOT_BYTES, 0))

    def write_mark(self, mark: Mark) -> None:
        """Note a durable transaction: slots take turns, so that a torn write leaves the other."""
        at = mark.sequence % MARK_SLOTS * MARK_SLOT_BYTES
        os.pwrite(self._mark, codec.encode_mark(mark), at)

    def close(self) -> None:
        """Sync the mark and release the lock. Twice is safe."""
        mark, self._mark = self._mark, -1
        if mark >= 0:
            try:
                os.fsync(mark)
            except OSError:
                pass  # it is written lazily anyway
            os.close(mark)
        lock, self._lock = self._lock, -1
        if lock >= 0:
            # A child between fork and exec holds the handle too, so closing ours is not enough.
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)


def make_directory(path: Path) -> None:
    """Make the directory, private to its owner, and its entry durable."""
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True)
        sync_directory(path.parent)


def require_room(path: Path) -> None:
    """Raise StoreFailed when the file system is as good as full."""
    state = os.statvfs(path)
    free = state.f_bavail * state.f_frsize
    if free < ROOM_BYTES_MIN:
        needed = f"{free // 1024} KiB are free, a start needs {ROOM_BYTES_MIN // 1024}"
        raise StoreFailed(f"{path}: {needed}", full=True)


def sync_directory(path: Path) -> None:
    """Make names in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def take_lock(path: Path) -> int:
    """Lock the file for the life of this process and note who holds it, for people."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        hint = "stop that process first, or give this node a directory of its own"
        raise StoreBusy(f"{path.parent} is in use by process {holder}", hint) from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


def open_mark(path: Path) -> int:
    """Open the mark file; a new one is made with all of its space."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if os.fstat(handle).st_size == 0:
        os.pwrite(handle, bytes(MARK_SLOTS * MARK_SLOT_BYTES), 0)
        os.fsync(handle)
        sync_directory(path.parent)
    return handle
