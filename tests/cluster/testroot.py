"""A machine to install on: this one's files under an overlay in memory, with namespaces of its own.

What is written there goes with the root; its processes end with it, its network is a loopback that
nobody else has. Needs root and overlayfs, and says what is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MAKE = """
set -e
mount -t tmpfs -o mode=755 overlay "$1"
mkdir "$1/upper" "$1/work" "$1/tree"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/tree"
mount -t proc proc "$1/tree/proc"
mount --rbind /dev "$1/tree/dev"
for one in dev/shm run tmp; do mount -t tmpfs -o mode=1777 "$one" "$1/tree/$one"; done
ip link set lo up
echo made
exec sleep infinity
"""
PROGRAMS = ("unshare", "nsenter", "ip", "setpriv", "dpkg", "dpkg-deb")


class TestRoot:
    """One made root."""

    __test__ = False  # not a class of tests

    def __init__(self, place: Path, pid: int) -> None:
        self._enter = ["nsenter", "--target", str(pid), "--mount", "--pid", "--net", "--ipc"]
        self._place = place

    def command(self, *words: object, user: str = "") -> list[str]:
        """A command line that runs there, as root or as an ordinary user."""
        become = ["runuser", "-u", user, "--"] if user else []
        inside = ["chroot", str(self._place / "tree"), *become]
        return [*self._enter, *inside, *map(str, words)]

    def try_run(self, *words: object, user: str = "") -> subprocess.CompletedProcess[str]:
        """Run something there, whatever becomes of it."""
        path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            self.command(*words, user=user), env=path, capture_output=True, text=True, timeout=120
        )

    def run(self, *words: object, user: str = "") -> str:
        """Run something there that must succeed; what it said."""
        done = self.try_run(*words, user=user)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def put(self, path: Path, to: str) -> None:
        """Copy a file of this machine's into it."""
        command = self.command("sh", "-c", f"cat > {to}")
        subprocess.run(command, input=path.read_bytes(), check=True)

    def changed(self) -> set[str]:
        """Every file and directory that differs from this machine's, deleted ones included."""
        upper = self._place / "upper"
        listing = [*self._enter, "find", str(upper), "-mindepth", "1", "-printf", "%P\n"]
        done = subprocess.run(listing, capture_output=True, text=True, check=True)
        return set(done.stdout.splitlines())


@contextmanager
def made_root() -> Iterator[TestRoot]:
    """A root for a while; skips where there can be none."""
    if os.geteuid() != 0:
        pytest.skip("a test root needs to be root")
    if lacking := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"a test root needs {', '.join(lacking)}")
    place = Path(tempfile.mkdtemp(prefix="pgherd-root-", dir="/var/tmp"))
    unshare = ["unshare", "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child"]
    command = [*unshare, "sh", "-c", MAKE, "root", str(place)]
    keeper = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert keeper.stdout is not None
        if keeper.stdout.readline() != "made\n":
            why = keeper.communicate()[1].strip()
            pytest.skip(f"no test root can be made here: {why}")
        children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children").read_text().split()
        yield TestRoot(place, int(children[0]))
    finally:
        keeper.kill()
        keeper.wait()
        place.rmdir()
