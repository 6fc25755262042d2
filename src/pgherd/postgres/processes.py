"""The processes of one data directory, found by what they are and not by a number in a file.

A process belongs to a data directory when it is a PostgreSQL process and its working directory is
that directory (compared by device and inode). Signals go through a pidfd that was checked after it
was opened, so a re-used pid is never hit. Linux; on other systems only postmaster.pid is known.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import msgspec

SERVER_NAMES = ("postgres", "postmaster")
GONE_POLL_S = 0.01


class PidFile(msgspec.Struct, frozen=True):
    """The lines of postmaster.pid that matter."""

    pid: int
    data_dir: str = ""
    port: int = 0
    socket_dir: str = ""


def parse_pid_file(text: str) -> PidFile | None:
    """Read postmaster.pid; None when it is empty or not one."""
    lines = [line.strip() for line in text.splitlines()] + [""] * 5
    try:
        pid = int(lines[0])
    except ValueError:
        return None
    if pid == 0:
        return None
    port = int(lines[3]) if lines[3].isdigit() else 0
    return PidFile(abs(pid), lines[1], port, lines[4])


def command_name(pid: int) -> str:
    """The kernel's name of a process; "" when there is none or it is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    name, state = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2]
    return "" if state in "ZX" else name


def is_server(pid: int) -> bool:
    """Whether a live process is PostgreSQL's."""
    return command_name(pid) in SERVER_NAMES


def belongs(pid: int, data_dir: Path) -> bool:
    """Whether a live PostgreSQL process works in this data directory."""
    if not is_server(pid):
        return False
    try:
        here, there = os.stat(f"/proc/{pid}/cwd"), data_dir.stat()
    except OSError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def is_hidden(pid: int) -> bool:
    """Whether it is a PostgreSQL process whose directory we may not see (another user's)."""
    try:
        os.stat(f"/proc/{pid}/cwd")
    except PermissionError:
        return is_server(pid)
    except OSError:
        return False
    return False


def of_directory(data_dir: Path) -> tuple[int, ...]:
    """All live PostgreSQL processes that work in a data directory."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return tuple(pid for pid in pids if belongs(pid, data_dir))


def send(pid: int, number: signal.Signals, *, data_dir: Path) -> bool:
    """Signal a process if it still is one of this data directory; False when it is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not belongs(pid, data_dir):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


async def wait_gone(pid: int) -> None:
    """Return when a process has ended; woken by its pidfd, no polling."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def wait_none(data_dir: Path, *, timeout_s: float) -> tuple[int, ...]:
    """Wait until no process of a data directory is left; return those that still are."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while left := of_directory(data_dir):
        if asyncio.get_running_loop().time() > deadline:
            return left
        await asyncio.sleep(GONE_POLL_S)
    return ()


def voluntary_switches(pid: int) -> int | None:
    """How often a process went to sleep by itself; None where the kernel does not say."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    return None
