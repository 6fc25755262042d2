"""pg_wal/archive_status: what waits to be archived, and what has to wait once more.

PostgreSQL keeps a file `NAME.ready` there until NAME is archived, then `NAME.done`. On a standby it
writes `.done` for all that it received: archiving that is the primary's business. All functions
block.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from pgherd.model.archive import read_name
from pgherd.model.ids import Timeline
from pgherd.postgres.files import sync_directory
from pgherd.postgres.identity import PostgresUser

READY, DONE = ".ready", ".done"


class Status(msgspec.Struct, frozen=True):
    """The names of files that wait, and of those that are done with."""

    ready: tuple[str, ...] = ()
    done: tuple[str, ...] = ()

    @property
    def waiting(self) -> int:
        return len(self.ready)

    def newest_done(self, timeline: Timeline) -> str:
        """The newest whole segment of a timeline that is done with; "" if none is."""
        own = [
            name
            for name in self.done
            if (file := read_name(name)) is not None and file.whole and file.timeline == timeline
        ]
        return max(own, default="")


def read(data_dir: Path) -> Status:
    """Both lists, in order."""
    names = sorted(entry.name for entry in os.scandir(folder(data_dir)))
    return Status(
        tuple(name.removesuffix(READY) for name in names if name.endswith(READY)),
        tuple(name.removesuffix(DONE) for name in names if name.endswith(DONE)),
    )


def folder(data_dir: Path) -> Path:
    return data_dir / "pg_wal" / "archive_status"


def make_ready(
    data_dir: Path, *, before: Timeline, behind: str, user: PostgresUser | None
) -> tuple[str, ...]:
    """Have whole segments and history files of earlier timelines archived from here; which.

    before: the present timeline · behind: the segment up to which all is known to be archived,
    whatever its timeline, "" for none. One that the archive has already is found there, with the
    same bytes.
    """
    status = read(data_dir)
    made = []
    for name in sorted(os.listdir(data_dir / "pg_wal")):
        file = read_name(name)
        if file is None or file.timeline >= before or name in status.ready:
            continue
        if not file.is_history and (not file.whole or name[8:] <= behind[8:]):
            continue
        mark = folder(data_dir) / f"{name}{READY}"
        if name in status.done:
            os.rename(folder(data_dir) / f"{name}{DONE}", mark)
        else:
            mark.touch(mode=0o600)
            if user is not None:
                os.chown(mark, user.uid, user.gid)
        made.append(name)
    if made:
        sync_directory(folder(data_dir))
    return tuple(made)
