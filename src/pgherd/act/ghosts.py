"""Servers of a data directory that was deleted under them: they hold port and socket, and serve.

Owns finding and ending them. PostgreSQL itself notices within a minute; a copy that is to start in
the same place cannot wait for that. Linux only; elsewhere none is found.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from pgherd.postgres import processes

GONE_POLL_S = 0.01
GONE_LIMIT_S = 5.0
LINUX = Path("/proc/self/cwd").exists()


def of_deleted(data_dir: Path) -> list[int]:
    """Live PostgreSQL processes whose working directory was this one before it was deleted."""
    place = _place(data_dir)
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()] if LINUX else []
    return [pid for pid in pids if _works_in(pid, place)]


def _place(data_dir: Path) -> str:
    return f"{data_dir.parent.resolve() / data_dir.name} (deleted)"


def _works_in(pid: int, place: str) -> bool:
    if not processes.is_server(pid):
        return False
    try:
        return os.readlink(f"/proc/{pid}/cwd") == place
    except OSError:
        return False


async def end(data_dir: Path) -> list[int]:
    """Kill them and wait until they are gone; return which there were."""
    found = await asyncio.to_thread(_kill, data_dir)
    deadline = asyncio.get_running_loop().time() + GONE_LIMIT_S
    while found and await asyncio.to_thread(_kill, data_dir):
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(GONE_POLL_S)
    return found


def _kill(data_dir: Path) -> list[int]:
    place = _place(data_dir)
    found = of_deleted(data_dir)
    for pid in found:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if _works_in(pid, place):  # still the one that was found
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it ended by itself
        finally:
            os.close(descriptor)
    return found
