"""Servers whose data directory was deleted or moved away: they hold port and socket, and serve on.

Owns finding and ending them. A ghost is a postmaster that was started for this directory's path and
works in another one, with what it started. One whose directory is gone ends by itself within a
minute, one whose directory was moved never does; a copy in the same place can wait for neither.
Linux only; elsewhere none is found.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from pgherd.postgres import processes

POLL_S = 0.01
FAST_S = 3.0
KILL_S = 5.0


def of_path(data_dir: Path) -> list[int]:
    """Postmasters that were started for this path and work elsewhere now, and their children."""
    if not Path("/proc/self/cwd").exists():
        return []
    servers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    servers = [pid for pid in servers if processes.is_server(pid)]
    heads = [pid for pid in servers if is_ghost(pid, data_dir)]
    return heads + [pid for pid in servers if _parent(pid) in heads]


def is_ghost(pid: int, data_dir: Path) -> bool:
    """Whether a process is a postmaster of this path without being one of the directory there."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    named = words[1:3] == [b"-D", os.fsencode(data_dir)]
    return named and processes.is_server(pid) and not processes.belongs(pid, data_dir)


async def end(data_dir: Path) -> list[int]:
    """End them, in order where they still can; return which there were."""
    found = await asyncio.to_thread(of_path, data_dir)
    if not found:
        return []
    _signal([pid for pid in found if is_ghost(pid, data_dir)], signal.SIGINT)
    if not await _gone(found, FAST_S):
        _signal(found, signal.SIGKILL)
        await _gone(found, KILL_S)
    return found


async def _gone(pids: list[int], limit_s: float) -> bool:
    deadline = asyncio.get_running_loop().time() + limit_s
    while any(processes.is_server(pid) for pid in pids):
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if processes.is_server(pid):  # no other program that got its number
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            pass  # it ended by itself
        finally:
            os.close(descriptor)


def _parent(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(text[text.rindex(")") + 2 :].split()[1])
