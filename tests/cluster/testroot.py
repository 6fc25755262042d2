"""A machine to install on: this one's files under an overlay in memory, with namespaces of its own.

What is written there goes with the root; its processes end with it, its network is a loopback that
nobody else has. Needs root and overlayfs, and says what is missing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
"""
REST = "echo made; exec sleep infinity"
BOOT = """
mount -t sysfs sysfs "$1/tree/sys"
mount -t cgroup2 none "$1/tree/sys/fs/cgroup"
rm -rf "$1"/tree/etc/systemd/system/*.wants "$1"/tree/usr/lib/systemd/system/*.wants
for one in systemd-remount-fs.service systemd-journald.service; do
    ln -sf /dev/null "$1/tree/etc/systemd/system/$one"
done
echo made
exec chroot "$1/tree" env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=basic.target --log-target=null --show-status=0
"""
"""A manager that starts nothing by itself: what units do to a kernel would be done to this one."""
LEAVE_S = 30.0
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
def made_root(*, boots: bool = False) -> Iterator[TestRoot]:
    """A root for a while, with nothing that runs or with systemd; skips where there can be none."""
    if os.geteuid() != 0:
        pytest.skip("a test root needs to be root")
    if lacking := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"a test root needs {', '.join(lacking)}")
    place = Path(tempfile.mkdtemp(prefix="pgherd-root-", dir="/var/tmp"))
    group = own_group() / place.name if boots else None
    try:
        if group is not None:
            group.mkdir()
    except OSError as error:
        place.rmdir()
        pytest.skip(f"no systemd can be booted here: {error}")
    unshare = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup"]
    enter = f"echo $$ > {group}/cgroup.procs; " if group is not None else ""
    script = MAKE + (BOOT if boots else REST)
    words = [*unshare, "--fork", "--kill-child", "sh", "-c", script, "root", str(place)]
    command = ["sh", "-c", f'{enter}exec "$@"', "enter", *words]
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
        if group is not None:
            leave(group)


def own_group() -> Path:
    """The control group of this process, in the hierarchy of version 2."""
    top = Path("/sys/fs/cgroup")
    found = re.search(r"^0::/(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
    assert found is not None
    return (top if (top / "cgroup.controllers").exists() else top / "unified") / found[1]


def leave(group: Path) -> None:
    """Remove a control group and those below it, once what ran there has ended."""
    until = time.monotonic() + LEAVE_S
    while group.exists():
        for below in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            with suppress(OSError):
                below.rmdir()
        with suppress(OSError):
            group.rmdir()
        assert time.monotonic() < until, f"{group} is still in use"
        time.sleep(0.1)
