"""A file that only takes room, so that there is some when the disk is full.

PostgreSQL ends when it can write no WAL, and needs room to come up again (a segment of WAL, the
files of a checkpoint). Once the ballast is deleted it has that, and people have time to mend the
cause; it is made anew when there is plenty. It lies on the file system of the WAL and outside of
the data directory, whose files are all copied to replicas.
"""

from __future__ import annotations

import os
from pathlib import Path

SUFFIX = ".ballast"
PLENTY = 4
"""It is made only where so many times its size is free."""


def place_of(data_dir: Path) -> Path | None:
    """Beside the directory that is on the disk of the WAL; None where that is another disk."""
    wal = (data_dir / "pg_wal").resolve()
    inside = wal.is_relative_to(data_dir.resolve())
    beside = data_dir if inside else wal
    try:
        same = beside.stat().st_dev == beside.parent.stat().st_dev
    except OSError:
        return None
    return beside.with_name(f"{beside.name}{SUFFIX}") if same else None


def keep(path: Path | None, size: int) -> str:
    """Have it in this size, if there is plenty of room; why people should know that it is not.

    Another size than wanted is what is left of an older wish, and made anew. Blocks.
    """
    if path is None:
        return "no ballast is kept: the data directory is a file system of its own" if size else ""
    try:
        has = path.stat().st_size
    except FileNotFoundError:
        has = 0
    if has == size:
        return ""
    try:
        path.unlink(missing_ok=True)
        if not size:
            return ""
        room = os.statvfs(path.parent)
        if room.f_bavail * room.f_frsize < PLENTY * size:
            return f"no ballast is kept at {path}: less than {PLENTY * size >> 20} MB are free"
        _make(path, size)
    except OSError as error:
        return f"no ballast is kept at {path}: {error.strerror}"
    return ""


def release(path: Path | None) -> int:
    """Give its room away; how much that was. Blocks."""
    if path is None:
        return 0
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size


def _make(path: Path, size: int) -> None:
    """Under another name first: half a ballast would be taken for a whole one."""
    draft = path.with_name(f"{path.name}.new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError:
        draft.unlink()
        raise
    finally:
        os.close(handle)
    draft.rename(path)
