"""Making a whole data directory durable at once: one syncfs(2) for each file system it lies on.

PostgreSQL's programs flush file by file, which on a slow device takes longer than the copying did.
From Linux 5.8 on syncfs tells of write errors; an older one does not, and is not used.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from pgherd.model.errors import PostgresError

HONEST_SINCE = (5, 8)


def is_honest(release: str) -> bool:
    """Whether syncfs of a Linux of this release tells of errors."""
    numbers = release.split("-")[0].split(".")[:2]
    return all(one.isdigit() for one in numbers) and tuple(map(int, numbers)) >= HONEST_SINCE


@cache
def is_there() -> bool:
    """Whether this machine has a syncfs that can be relied on."""
    if platform.system() != "Linux" or not is_honest(platform.release()):
        return False
    import ctypes  # a rewind is rare, and an agent small

    return hasattr(ctypes.CDLL(None), "syncfs")


def sync_tree(data_dir: Path) -> int:
    """Flush all file systems of a data directory, blocking; return how many there were."""
    devices: dict[int, Path] = {}
    for place in places(data_dir):
        devices.setdefault(place.stat().st_dev, place)
    for place in devices.values():
        _sync(place)
    return len(devices)


def places(data_dir: Path) -> list[Path]:
    """The directory, its pg_wal and its tablespaces, which may be links to other devices."""
    spaces = data_dir / "pg_tblspc"
    linked = sorted(spaces.iterdir()) if spaces.is_dir() else []
    return [one for one in (data_dir, data_dir / "pg_wal", *linked) if one.is_dir()]


def _sync(place: Path) -> None:
    import ctypes

    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            why = os.strerror(ctypes.get_errno())
            raise PostgresError(f"the file system of {place} cannot be flushed: {why}")
    finally:
        os.close(descriptor)
