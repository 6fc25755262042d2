"""What the kernel is told and asked about TCP sockets.

Owns socket options, the test for a dead peer, and finding who holds a taken port. Linux gives all
of it; elsewhere the parts that are missing are left out.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

KEEPALIVE_IDLE_S = 10
KEEPALIVE_INTERVAL_S = 3
KEEPALIVE_PROBES = 4

_P = TypeVar("_P", bound=asyncio.BaseProtocol)
_LISTEN = "0A"
_TCP_INFO_BYTES = 104
_RETRANSMITS_AT = 2
_UNACKED_AT = 24
_LAST_ACK_AT = 56
_RETRANSMITS_MIN = 5


async def connect(factory: Callable[[], _P], host: str, port: int) -> tuple[asyncio.Transport, _P]:
    """Connect to a server. A host that is a path is its socket directory, as libpq has it."""
    loop = asyncio.get_running_loop()
    if host.startswith("/"):
        return await loop.create_unix_connection(factory, f"{host}/.s.PGSQL.{port}")
    return await loop.create_connection(factory, host, port)


def tune(sock: socket.socket) -> None:
    """Send small messages at once, and notice an idle peer that is gone (within 22 s).

    TCP_USER_TIMEOUT is left alone on purpose: it also kills a peer that is alive and merely does
    not read (tcp_probe_timer in Linux), such as a pager or a COPY that waits for a lock.
    `is_dead` tells the two apart.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def is_dead(sock: socket.socket, *, dead_peer_ms: int) -> bool:
    """Whether sent data has stayed unacknowledged for so long (tcp_info, linux/tcp.h).

    A peer that only stopped reading has nothing unacknowledged: its kernel acknowledged all that
    fitted and answers window probes. Retransmissions are asked for as well, since the last
    acknowledgement of a session that was idle for an hour is an hour old when it sends again.
    """
    if not hasattr(socket, "TCP_INFO"):
        return False
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return False
    if len(info) < _LAST_ACK_AT + 4:
        return False
    (unacked,) = struct.unpack_from("=I", info, _UNACKED_AT)
    (last_ack_ms,) = struct.unpack_from("=I", info, _LAST_ACK_AT)
    has_retried = info[_RETRANSMITS_AT] >= _RETRANSMITS_MIN
    return has_retried and unacked > 0 and last_ack_ms > dead_peer_ms


def who_listens(port: int) -> str | None:
    """`pid N (name)` of the process that listens on a TCP port, as far as we may see."""
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _holds(process, inodes):
            name = _read(process / "comm").strip()
            return f"pid {process.name} ({name})"
    return "a process of another user"


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _read(Path(table)).splitlines()[1:]:
            words = line.split()
            local, state, inode = words[1], words[3], words[9]
            if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                inodes.add(inode)
    return inodes


def _holds(process: Path, inodes: set[str]) -> bool:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    try:
        links = list((process / "fd").iterdir())
    except OSError:
        return False
    for link in links:
        try:
            if os.readlink(link) in wanted:
                return True
        except OSError:
            continue
    return False


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
