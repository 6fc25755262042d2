"""Which processes belong to one data directory, and the end of all of them.

A process belongs to a data directory when it is a PostgreSQL process and its working directory is
that directory (compared by device and inode). Signals go through a pidfd that was checked after it
was opened, so a re-used pid is never hit. Nothing but the standard library's smallest modules: the
supervisor, a bare interpreter, uses this too. Linux.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

Directory = str | os.PathLike[str]

SERVER_NAMES = ("postgres", "postmaster")
ROUNDS_MAX = 20
ROUND_S = 0.005


def _stat(pid: int) -> tuple[str, list[str]]:
    """The kernel's name of a live process and what /proc/PID/stat says after it; ("", []) if none.

    A zombie is none.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return "", []
    before, _, after = text.rpartition(")")
    fields = after.split()
    return ("", []) if not fields or fields[0] in "ZX" else (before.partition("(")[2], fields)


def command_name(pid: int) -> str:
    """The kernel's name of a process; "" when there is none or it is a zombie."""
    return _stat(pid)[0]


def start_ticks(pid: int) -> int:
    """When a process began, in clock ticks since boot: with its pid it names it; 0: it is gone."""
    fields = _stat(pid)[1]
    return int(fields[19]) if fields else 0


def parent(pid: int) -> int:
    """The process that a live process is a child of; 0 when it is gone."""
    fields = _stat(pid)[1]
    return int(fields[1]) if fields else 0


def is_server(pid: int) -> bool:
    """Whether a live process is PostgreSQL's."""
    return command_name(pid) in SERVER_NAMES


def belongs(pid: int, data_dir: Directory) -> bool:
    """Whether a live PostgreSQL process works in this data directory."""
    if not is_server(pid):
        return False
    try:
        here, there = os.stat(f"/proc/{pid}/cwd"), os.stat(data_dir)
    except OSError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def of_directory(data_dir: Directory) -> tuple[int, ...]:
    """All live PostgreSQL processes that work in a data directory."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return tuple(pid for pid in pids if belongs(pid, data_dir))


def send(pid: int, number: signal.Signals, *, data_dir: Directory) -> bool:
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


def of_postmaster(data_dir: Directory, pid: int, started: int) -> tuple[int, ...]:
    """The live processes of one postmaster, which may be dead itself; it comes first.

    started: its start_ticks. Another postmaster of the same directory, with what it started, is
    not of it.
    """
    is_it = start_ticks(pid) == started
    found = [each for each in of_directory(data_dir) if each != pid or is_it]
    if pid in found:
        return pid, *(each for each in found if each != pid)
    other = named_in_pid_file(data_dir)
    if not belongs(other, data_dir):
        return tuple(found)
    return tuple(each for each in found if other not in (each, parent(each)))


def named_in_pid_file(data_dir: Directory) -> int:
    """The postmaster that the directory's own file names; 0 when it names none."""
    try:
        with open(os.path.join(data_dir, "postmaster.pid"), encoding="utf-8") as file:
            return abs(int(file.readline()))
    except (OSError, ValueError):
        return 0


def kill_postmaster(data_dir: Directory, pid: int, started: int) -> int:
    """SIGKILL a postmaster and all of its processes; how many there were."""
    return _kill(lambda: of_postmaster(data_dir, pid, started), data_dir)


def kill_all(data_dir: Directory) -> int:
    """SIGKILL every process of a data directory; how many there were."""
    return _kill(lambda: of_directory(data_dir), data_dir)


def _kill(find: Callable[[], tuple[int, ...]], data_dir: Directory) -> int:
    """Until every one that is found has its signal.

    A process that hangs in the kernel dies when it comes out, and does nothing more before.
    """
    sent: set[int] = set()
    for _ in range(ROUNDS_MAX):
        left = find()
        if sent.issuperset(left):
            break
        sent.update(pid for pid in left if send(pid, signal.SIGKILL, data_dir=data_dir))
        time.sleep(ROUND_S)
    return len(sent)
