"""A file system per directory that a disk fault strikes: full, hung, or read-only.

Owns an ext4 image over a loop device, mounted where a node's data or its Raft store lives; the
mount belongs to the run's own namespace and ends with it. Leaves which and when to `diskfaults`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from pgherd.chaos.machine import run
from pgherd.chaos.timers import Timer

BALLAST = "ballast"


class Disk:
    """A small file system at a directory."""

    def __init__(self, path: Path, *, image: Path, size_mb: int) -> None:
        self.path = path
        self._image = image
        before = path.stat()
        with image.open("wb") as file:
            file.truncate(size_mb << 20)
        run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1", str(image))
        run("mount", "-o", "loop", str(image), str(path))
        shutil.rmtree(path / "lost+found")
        os.chown(path, before.st_uid, before.st_gid)
        path.chmod(before.st_mode & 0o777)

    def fill(self) -> Callable[[], None]:
        """Leave no byte; what makes room again."""
        ballast = self.path / BALLAST
        with ballast.open("ab", buffering=0) as file:
            free = os.statvfs(self.path)
            try:
                os.posix_fallocate(file.fileno(), 0, free.f_bfree * free.f_frsize * 99 // 100)
            except OSError:
                pass  # somebody was quicker: what is left is filled by steps
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    pass
        return lambda: ballast.unlink(missing_ok=True)

    def freeze(self, *, at_most_s: float) -> Callable[[], None]:
        """Let every write hang, un-killable; what thaws it."""
        timer = Timer(at_most_s, f"fsfreeze -u {self.path}")
        run("fsfreeze", "-f", str(self.path))
        return timer.now

    def lock(self) -> Callable[[], None] | None:
        """Make it read-only; None while files that are open for writing forbid it."""
        try:
            run("mount", "-o", "remount,ro", str(self.path))
        except RuntimeError:
            return None
        return lambda: _unlock(self.path)

    def close(self) -> None:
        """Unmount and delete."""
        subprocess.run(["umount", "-l", str(self.path)], check=False, capture_output=True)
        self._image.unlink(missing_ok=True)


def _unlock(path: Path) -> None:
    run("mount", "-o", "remount,rw", str(path))
