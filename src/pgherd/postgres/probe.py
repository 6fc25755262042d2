"""A fresh connection at protocol level: does this server still take sessions?

Speaks the start of PostgreSQL's protocol itself (message flow: "Start-up" in PostgreSQL's
documentation), so that it needs no libpq and no thread, and leaves as soon as it knows.
"""

from __future__ import annotations

import asyncio
import struct
from enum import StrEnum

from pgherd.wire.query import TERMINATE, error_of, startup

ANSWER_BYTES_MAX = 65_536
GRACE_S = 0.05
"""After a stall of this process its deadline is over, and the answer is there but not read yet."""

LISTEN_S = 1.0
CANNOT_CONNECT_NOW = "57P03"
TOO_MANY_CONNECTIONS = "53300"


class Probe(StrEnum):
    """What a fresh connection met.

    ALIVE: a session began · FULL: alive, no connection left · FORKLESS: the postmaster answers and
    can start no process · STARTING: answers, takes none yet or no more · HUNG: the port is open and
    nobody answers · REFUSED: nobody listens.
    """

    ALIVE = "alive"
    FULL = "full"
    FORKLESS = "forkless"
    STARTING = "starting"
    HUNG = "hung"
    REFUSED = "refused"

    @property
    def is_alive(self) -> bool:
        """Whether the server takes sessions."""
        return self in (Probe.ALIVE, Probe.FULL)

    @property
    def answers(self) -> bool:
        """Whether somebody is there who does what a postmaster does, as far as he can."""
        return self.is_alive or self is Probe.FORKLESS


async def probe(socket_path: str, *, user: str, database: str, timeout_s: float) -> Probe:
    """Open a session at a server's Unix socket and leave again."""
    who = {"user": user, "database": database, "application_name": "pgherd-probe"}
    asking = asyncio.create_task(_ask(socket_path, startup(who)), name="probe")
    try:
        for limit_s in (timeout_s, GRACE_S):
            await asyncio.wait({asking}, timeout=limit_s)
            if asking.done():
                return asking.result()
        return Probe.HUNG
    except (ConnectionResetError, BrokenPipeError):
        return await _listen(socket_path)
    except OSError:
        return Probe.REFUSED
    finally:
        asking.cancel()


def judge(message: bytes, body: bytes) -> Probe | None:
    """What one message of the server says; None = read on."""
    if message == b"Z":
        return Probe.ALIVE
    if message == b"R" and body[:4] not in (b"\0\0\0\0", b""):
        return Probe.ALIVE  # it asks for a password: a backend is there
    if message == b"E":
        code = error_of(body).sqlstate
        known = {CANNOT_CONNECT_NOW: Probe.STARTING, TOO_MANY_CONNECTIONS: Probe.FULL}
        return known.get(code, Probe.ALIVE)
    return None


async def _listen(socket_path: str) -> Probe:
    """Why a postmaster hangs up on who speaks: one without processes says so unasked, and leaves.

    Whoever writes to it at that moment loses what it said.
    """
    try:
        async with asyncio.timeout(LISTEN_S):
            reader, writer = await asyncio.open_unix_connection(socket_path)
            try:
                said = await reader.read(ANSWER_BYTES_MAX)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return Probe.REFUSED
    return Probe.FORKLESS if said[:1] == b"E" else Probe.REFUSED


async def _ask(socket_path: str, startup: bytes) -> Probe:
    reader, writer = await asyncio.open_unix_connection(socket_path, limit=ANSWER_BYTES_MAX)
    try:
        writer.write(startup)
        while True:
            header = await reader.readexactly(5)
            length = struct.unpack("!I", header[1:])[0] - 4
            if header[:1] == b"E" and length > ANSWER_BYTES_MAX:
                return Probe.FORKLESS  # plain text: all that a postmaster says without a process
            if not 0 <= length <= ANSWER_BYTES_MAX:
                return Probe.HUNG  # whoever answers does not speak PostgreSQL
            verdict = judge(header[:1], await reader.readexactly(length))
            if verdict is not None:
                if verdict is Probe.ALIVE:
                    writer.write(TERMINATE)
                return verdict
    except asyncio.IncompleteReadError:
        return Probe.REFUSED  # closed before it said anything: dying
    finally:
        writer.close()
