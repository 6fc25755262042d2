"""Small file systems of their own for parts of a node: made, frozen and taken away. Needs root."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path


def run(*command: str) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def mount_tmpfs(path: Path, size_mb: int) -> None:
    """A file system in memory with so much room."""
    run("mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=700", "tmpfs", str(path))


@contextlib.contextmanager
def small_disk(path: Path, *, size_mb: int) -> Iterator[bool]:
    """A small file system for one node's PostgreSQL; False where none can be mounted."""
    options = f"size={size_mb}m,mode=755"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    owner = path.stat()
    done = os.geteuid() == 0 and not subprocess.run(mount, check=False).returncode
    if done:
        os.chown(path, owner.st_uid, owner.st_gid)
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", "-l", str(path)], check=True)


def leave_free(file: Path, left_mb: int) -> None:
    """Grow a file until only so much is free beside it; it may be called again for less."""
    with file.open("ab") as filling:
        more = shutil.disk_usage(file.parent).free - (left_mb << 20)
        if more > 0:
            os.posix_fallocate(filling.fileno(), filling.seek(0, os.SEEK_END), more)


class LoopDisk:
    """An ext4 image over a loop device, under a directory that must not exist yet.

    Raises OSError or CalledProcessError where none can be made.
    """

    def __init__(self, directory: Path, *, size_mb: int) -> None:
        self.path = directory / "disk"
        self._thaw: subprocess.Popen[bytes] | None = None
        self._image = directory / "image"
        self.path.mkdir(parents=True)
        with self._image.open("wb") as file:
            file.truncate(size_mb << 20)
        run("mkfs.ext4", "-q", "-m", "0", str(self._image))
        run("mount", "-o", "loop", str(self._image), str(self.path))
        shutil.rmtree(self.path / "lost+found")

    def freeze(self, *, at_most_s: int) -> None:
        """Every write hangs, and nobody who writes can be killed, until `thaw` or so long after."""
        script = f"sleep {at_most_s}; exec fsfreeze -u '{self.path}'"
        self._thaw = subprocess.Popen(["sh", "-c", script], start_new_session=True)
        run("fsfreeze", "-f", str(self.path))

    def thaw(self) -> None:
        """Writes go on."""
        if self._thaw is None:
            return
        subprocess.run(["fsfreeze", "-u", str(self.path)], check=False, capture_output=True)
        self._thaw.kill()
        self._thaw.wait()
        self._thaw = None

    def close(self) -> None:
        """Take it away; whoever works there must have ended."""
        self.thaw()
        subprocess.run(["umount", "-l", str(self.path)], check=False, capture_output=True)
