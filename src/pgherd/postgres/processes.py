"""The processes of one data directory, found by what they are and not by a number in a file.

What belongs to a directory, and signals to it, is `tree`'s; this is the agent's door to them, with
what it takes to wait for their ends. Linux; on other systems only postmaster.pid is known.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from pgherd.postgres.tree import belongs, command_name, is_server, of_directory, send

__all__ = [
    "PidFile",
    "belongs",
    "command_name",
    "is_hidden",
    "is_server",
    "of_directory",
    "parse_pid_file",
    "send",
    "voluntary_switches",
    "wait_gone",
    "wait_none",
]

GONE_POLL_S = 0.01


class PidFile(msgspec.Struct, frozen=True):
    """The lines of postmaster.pid that matter. status: in PostgreSQL's words, as "standby"."""

    pid: int
    data_dir: str = ""
    port: int = 0
    socket_dir: str = ""
    status: str = ""


def parse_pid_file(text: str) -> PidFile | None:
    """Read postmaster.pid; None when it is empty or not one."""
    lines = [line.strip() for line in text.splitlines()] + [""] * 8
    try:
        pid = int(lines[0])
    except ValueError:
        return None
    if pid == 0:
        return None
    port = int(lines[3]) if lines[3].isdigit() else 0
    return PidFile(abs(pid), lines[1], port, lines[4], lines[7])


def is_hidden(pid: int) -> bool:
    """Whether it is a PostgreSQL process whose directory we may not see (another user's)."""
    try:
        os.stat(f"/proc/{pid}/cwd")
    except PermissionError:
        return is_server(pid)
    except OSError:
        return False
    return False


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
