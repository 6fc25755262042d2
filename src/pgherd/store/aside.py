"""A store that is lost is kept: renamed into a folder of its own beside the new one, never deleted.

The caller holds the directory's lock and has made sure that nobody counts on the store any more.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path

from pgherd.store.directory import StoreDirectory, sync_directory

ASIDE = "forgotten-"
DATABASE_FILES = ("store.sqlite", "store.sqlite-wal", "store.sqlite-shm")
MARK_FILE = "acknowledged"


def set_aside(directory: StoreDirectory) -> Path | None:
    """Move what is left of a store out of the way, durably; where to, None if nothing was left.

    Cut short, it is simply done again: what is left then goes into a folder of its own.
    """
    names = [*DATABASE_FILES, *([MARK_FILE] if directory.read_mark().sequence else [])]
    left = [directory.path / name for name in names if (directory.path / name).exists()]
    if not left:
        return None
    place = next(
        one for number in count(1) if not (one := directory.path / f"{ASIDE}{number}").exists()
    )
    place.mkdir(mode=0o700)
    for file in left:
        file.rename(place / file.name)
    sync_directory(place)
    sync_directory(directory.path)
    return place
