"""Listening sockets that hand over what they accept, before any handshake.

asyncio's own server would swallow why a handshake failed, and start_tls differs between loops.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

BACKLOG = 64
ACCEPT_PAUSE_S = 0.5
"""After running out of file descriptors: wait instead of spinning."""


async def bind(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of a host; all or none. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listening = socket.socket(family, kind, protocol)
            sockets.append(listening)
            listening.setblocking(False)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
    except OSError:
        for listening in sockets:
            listening.close()
        raise
    return sockets


class Listener:
    """Calls on_connection(socket, the caller's host) for each connection, on the loop."""

    def __init__(
        self,
        sockets: list[socket.socket],
        on_connection: Callable[[socket.socket, str], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        self._on_connection = on_connection
        self._is_closed = False
        self._watch()

    @property
    def port(self) -> int:
        """The port of the first address."""
        return int(self._sockets[0].getsockname()[1])

    def close(self) -> None:
        """Stop listening. Twice is safe."""
        if not self._is_closed:
            self._is_closed = True
            for listening in self._sockets:
                self._loop.remove_reader(listening)
                listening.close()

    def _watch(self) -> None:
        if not self._is_closed:
            for listening in self._sockets:
                self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(BACKLOG):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                for each in self._sockets:
                    self._loop.remove_reader(each)
                self._loop.call_later(ACCEPT_PAUSE_S, self._watch)
                return
            connection.setblocking(False)
            self._on_connection(connection, str(address[0]))
