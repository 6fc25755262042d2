"""The sockets that clients connect to.

Owns opening and closing them to match the settings, and saying who holds a port that is taken. What
an earlier proxy had open is taken over (`keeping`).
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
from collections.abc import Callable, Iterable, Iterator

from pgherd.relay import keeping
from pgherd.relay.messages import ListenerSettings, Place
from pgherd.relay.sockets import who_listens

BACKLOG = 512
TRIES_MAX = 5
RETRY_S = 0.2
"""A predecessor that is just dying may hold the port for a moment."""


class ListenError(Exception):
    """A listener cannot be opened; the text names it, and who holds the port."""


class Listeners:
    """All listeners of this process. A client gets the settings of the moment it comes."""

    def __init__(self, accept: Callable[[ListenerSettings], asyncio.BaseProtocol]) -> None:
        self._accept = accept
        self._servers: dict[Place, list[asyncio.Server]] = {}
        self._settings: dict[Place, ListenerSettings] = {}
        self._inherited = keeping.inherited()
        self._is_closed = False

    def labels(self) -> tuple[str, ...]:
        """The listeners that are open now."""
        return tuple(self._settings[place].label for place in self._servers)

    async def match(self, wanted: Iterable[ListenerSettings], *, tries: int = TRIES_MAX) -> None:
        """Open what is missing, close what is not wanted any more. Raises ListenError."""
        if self._is_closed:
            return
        before = set(self._servers)
        self._settings = {one.place: one for one in wanted}
        for gone in before - self._settings.keys():
            _close(self._servers.pop(gone))
        for place, one in self._settings.items():
            if place not in self._servers:
                self._servers[place] = await self._open(one, tries)
        for fd in itertools.chain.from_iterable(self._inherited.values()):
            os.close(fd)
        self._inherited.clear()
        if before != set(self._servers):
            keeping.hand_in(self._sockets())

    def close(self) -> None:
        """Take no more clients, for good; sessions go on, and a successor may begin."""
        self._is_closed = True
        for servers in self._servers.values():
            _close(servers)
        self._servers.clear()
        keeping.leave()

    def _sockets(self) -> Iterator[tuple[Place, int]]:
        for place, servers in self._servers.items():
            for server in servers:
                for sock in server.sockets:
                    yield place, sock.fileno()

    async def _open(self, one: ListenerSettings, tries: int) -> list[asyncio.Server]:
        loop = asyncio.get_running_loop()
        if inherited := self._inherited.pop(one.place, []):
            return [
                await loop.create_server(
                    lambda: self._accept(self._settings.get(one.place, one)),
                    sock=socket.socket(fileno=fd),
                    backlog=BACKLOG,
                )
                for fd in inherited
            ]
        host = None if one.host in ("", "*") else one.host
        for left in reversed(range(tries)):
            try:
                server = await loop.create_server(
                    lambda: self._accept(self._settings.get(one.place, one)),
                    host,
                    one.port,
                    backlog=BACKLOG,
                )
            except OSError as error:
                if left == 0 or error.errno != errno.EADDRINUSE:
                    raise ListenError(_explain(one, error)) from error
            else:
                return [server]
            await asyncio.sleep(RETRY_S)
        raise ListenError(f"cannot listen on {one.host}:{one.port}")


def _close(servers: Iterable[asyncio.Server]) -> None:
    for server in servers:
        server.close()


def _explain(one: ListenerSettings, error: OSError) -> str:
    where = f"{one.host or '*'}:{one.port}"
    if error.errno != errno.EADDRINUSE:
        return f"cannot listen on {where} for route {one.route}: {error.strerror or error}"
    owner = who_listens(one.port)
    taken = f"the port is taken by {owner}" if owner else "the port is taken"
    return f"cannot listen on {where} for route {one.route}: {taken}"
