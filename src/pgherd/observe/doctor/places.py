"""The directories of a node: what file system is below, how much room, how fast a durable write.

Blocks as long as a disk does: call it in a thread. It writes nothing into the data directory: where
WAL has no directory beside it on the same file system, how fast that is stays unknown.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path

import msgspec

from pgherd.model.checkup import Place

MOUNTS = Path("/proc/self/mountinfo")
WRITES = 5
ENOUGH_MS = 1000.0
"""Of all of them together: a disk that is so slow need not be shown it five times."""
WRITE_BYTES = 8192
FOLDERS_UP = 3


def look(places: dict[str, Path], *, quick: bool, mounts: Path = MOUNTS) -> tuple[Place, ...]:
    """Each of these directories. quick: nothing is written."""
    try:
        table = mounts.read_text()
    except OSError:
        table = ""
    return tuple(one(name, path, table, quick=quick) for name, path in places.items())


def one(name: str, path: Path, table: str, *, quick: bool) -> Place:
    """One directory."""
    try:
        real = path.resolve(strict=True)
        room, device = os.statvfs(real), real.stat().st_dev
    except OSError as error:
        return Place(name, str(path), problem=error.strerror or str(error))
    kind, options = mount_of(str(real), table)
    found = Place(
        name=name,
        path=str(path),
        device=device,
        kind=kind,
        options=options,
        free_bytes=room.f_bavail * room.f_frsize,
        size_bytes=room.f_blocks * room.f_frsize,
        inodes_free=room.f_favail,
        inodes=room.f_files,
    )
    if quick:
        return found
    return msgspec.structs.replace(found, fsync_ms=durable(beside(name, real, device)))


def mount_of(path: str, table: str) -> tuple[str, tuple[str, ...]]:
    """Kind and options of the mount that a path is on, of the kernel's table (proc(5))."""
    best = ""
    found: tuple[str, tuple[str, ...]] = ("", ())
    for line in table.splitlines():
        before, dash, after = line.partition(" - ")
        words, more = before.split(), after.split()
        if not dash or len(words) < 6 or len(more) < 3:
            continue
        point = words[4].encode().decode("unicode_escape")
        is_above = path == point or path.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= len(best):  # of two at one place the later one covers
            best = point
            found = more[0], tuple(dict.fromkeys((*words[5].split(","), *more[2].split(","))))
    return found


def beside(name: str, real: Path, device: int) -> Path | None:
    """Where a file may be written on the same file system; never within a data directory."""
    if name == "raft":
        return real
    for folder in list(real.parents)[:FOLDERS_UP]:
        with contextlib.suppress(OSError):
            is_data = (folder / "PG_VERSION").exists()
            if not is_data and folder.stat().st_dev == device and os.access(folder, os.W_OK):
                return folder
    return None


def durable(folder: Path | None) -> float | None:
    """The slowest of a few small durable writes, in ms; None where none could be made."""
    if folder is None:
        return None
    took, began = [], time.monotonic()
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".pgherd-doctor-") as file:
            for _ in range(WRITES):
                file.write(b"\0" * WRITE_BYTES)
                file.flush()
                os.fsync(file.fileno())
                now = time.monotonic()
                took.append((now - began) * 1000)
                began = now
                if sum(took) > ENOUGH_MS:
                    break
    except OSError:
        return None
    return max(took)
