"""The engine in C: sessions whose bytes pass in threads that do not need the GIL.

Theory of operation. When a session's opening is over and nothing waits in either transport, both
sockets are duplicated, the loop's copies closed, and the duplicates given to the extension. From
then on the session's transports are `_Side`s: wishes go to the extension, and what became of the
sockets comes back as losses, through a descriptor that the event loop watches. So a session ends in
one way whoever carries it: deadlines, the last word and its conditions stay `session`'s.

Owns this step and the translation. Leaves the relay itself to `_pump`.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from pgherd.relay._pump import Pump
from pgherd.relay.session import Session

THREADS_MAX = 4
PROBE_S = 2.0
TRIES_AT_ONCE = 4
TRIES_MAX = 100
RETRY_S = 0.05
"""A client that does not read its greeting for TRIES_MAX of these stays with the event loop."""

CLIENT, SERVER = False, True


class PumpEngine:
    """The threads, and whose bytes they carry. uring: by io_uring, not by epoll. Raises OSError."""

    def __init__(self, *, uring: bool = False) -> None:
        self.pump = Pump(threads_for(len(os.sched_getaffinity(0))), uring)
        self._loop = asyncio.get_running_loop()
        self._sessions: dict[int, Session] = {}
        self._loop.add_reader(self.pump.fileno(), self._tell)

    def take(self, session: Session) -> None:
        """Carry a session's bytes as soon as nothing of them waits here."""
        self._loop.call_soon(self._try_to_take, session, 1)

    def totals(self) -> tuple[int, int]:
        """Bytes from clients and from servers."""
        return self.pump.totals()

    def close(self) -> None:
        """End all sessions."""
        self._loop.remove_reader(self.pump.fileno())
        self.pump.close()

    def _try_to_take(self, session: Session, tries: int) -> None:
        client, server = session.client, session.server
        if client is None or server is None or session.closing or session.client_ended:
            return
        if client.is_closing() or server.is_closing():
            return
        if not any(session.waiting_bytes):
            self._take(session, client, server)
        elif tries < TRIES_AT_ONCE:
            self._loop.call_soon(self._try_to_take, session, tries + 1)
        elif tries < TRIES_MAX:
            self._loop.call_later(RETRY_S, self._try_to_take, session, tries + 1)

    def _take(self, session: Session, client: asyncio.Transport, server: asyncio.Transport) -> None:
        handle = self._add(client, server)
        if handle is None:
            return
        for transport in (client, server):
            transport.set_protocol(_gone)
            transport.abort()  # closes a descriptor; the connection lives on in its duplicate
        self._sessions[handle] = session
        session.client = _Side(self.pump, handle, CLIENT)
        session.server = _Side(self.pump, handle, SERVER)
        session.flow = _Flow(self.pump, handle)
        session.packets.clear()
        session.wants = _over  # an Event of its own is a third of an idle session's memory
        if session.task is not None and session.task.done():
            session.task = None

    def _add(self, client: asyncio.Transport, server: asyncio.Transport) -> int | None:
        """Give duplicates of both sockets away; None where there is no room for them."""
        fds: list[int] = []
        try:
            for transport in (client, server):
                fds.append(os.dup(transport.get_extra_info("socket").fileno()))
            return self.pump.add(*fds)
        except (OSError, MemoryError):
            for fd in fds:
                os.close(fd)
            return None

    def _tell(self) -> None:
        for handle, side, _ in self.pump.losses():
            session = self._sessions.get(handle)
            if session is None:
                continue
            if side == SERVER:
                session.server_lost()
            else:
                session.client_lost()
            if session.client is None and session.server is None:
                del self._sessions[handle]


class _Flow:
    """A session's view of its bytes."""

    __slots__ = ("_bytes", "_handle", "_pump")

    def __init__(self, pump: Pump, handle: int) -> None:
        self._pump = pump
        self._handle = handle
        self._bytes = 0

    def look(self, session: Session) -> None:
        """Bring up to date what the session knows; once both sockets are lost nothing changes."""
        seen = self._pump.look(self._handle)
        if seen is None:
            return
        tail, client_spoke_last, session.client_ended, passed, _, _ = seen
        if passed == self._bytes:
            return
        self._bytes = passed
        session.stirred, session.client_spoke_last = True, client_spoke_last
        if tail:  # else the server has said nothing since then
            session.tail = tail

    def halt(self, halted: bool) -> None:
        """Let nothing pass any more from this moment on, or again."""
        self._pump.halt(self._handle, halted)


class _Side(asyncio.Transport):
    """One socket of a flow, as the transport that a session knows."""

    __slots__ = ("_handle", "_is_closing", "_pump", "_side")

    def __init__(self, pump: Pump, handle: int, side: bool) -> None:
        self._pump = pump
        self._handle = handle
        self._side = side
        self._is_closing = False

    def write(self, data: Any) -> None:
        self._pump.write(self._handle, self._side, data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._pump.end(self._handle, self._side)

    def close(self) -> None:
        self._is_closing = True
        self._pump.leave(self._handle, self._side)

    def abort(self) -> None:
        self._is_closing = True
        self._pump.drop(self._handle, self._side)

    def is_closing(self) -> bool:
        return self._is_closing

    def is_reading(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        seen = self._pump.look(self._handle)
        if seen is None:
            return 0
        return seen[5] if self._side == SERVER else seen[4]

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else default

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        """As of a socket, for the one question that is asked of a running session's."""
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
        return self._pump.tcp_info(self._handle, self._side)[:size]


class _Gone(asyncio.Protocol):
    """What a transport has whose connection was given away."""


_gone = _Gone()
_over = asyncio.Event()
_over.set()


def threads_for(cores: int) -> int:
    """Half of the cores: the other half is PostgreSQL's."""
    return max(1, min(THREADS_MAX, cores // 2))


def probe(*, uring: bool = False) -> None:
    """Pass a word through a pump of its own. Raises OSError where that does not work."""
    pump = Pump(1, uring)
    try:
        client, outer = socket.socketpair()
        server, inner = socket.socketpair()
        with client, server:
            pump.add(outer.detach(), inner.detach())
            client.settimeout(PROBE_S)
            server.settimeout(PROBE_S)
            client.sendall(b"ping")
            if server.recv(8) != b"ping":
                raise OSError("bytes do not pass")
    finally:
        pump.close()
