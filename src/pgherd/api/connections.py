"""The API's connections: how many there may be, and how long one may take.

Theory of operation. A connection waits for a request (its head is not whole yet), reads a body,
works, or writes. Only work has no limit of its own: routes have theirs. Who waits may be many and
idle, or slow on purpose; once there are too many, the one that has waited longest goes for each
that comes, so that health checks get in whoever else is there. `look` is called once a second.
Owns handshakes too: their number and time. Leaves HTTP to uvicorn.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from pgherd.peer.wire import explain

CONNECTIONS_MAX = 512
HANDSHAKES_MAX = 128
HANDSHAKE_S = 5.0
WAIT_S = 15.0
"""For the head of a request, from the end of the one before or from the beginning."""
BODY_S = 30.0
WRITE_S = 30.0
"""Without any byte that the client takes."""
COMPLAINTS_MAX = 256

log = logging.getLogger("pgherd.api")
quiet = logging.getLogger("pgherd.api.http")
quiet.setLevel(logging.ERROR)  # whoever sends nonsense must not fill the log


class Connection(H11Protocol):
    """One client's. since_s: when it began what it does now."""

    def __init__(self, config: Config, state: ServerState, made: Callable[[Connection], None]):
        super().__init__(config, state, {})
        self.logger = quiet
        self.since_s = self.loop.time()
        self._made = made
        self._known: RequestResponseCycle | None = None
        self._unsent = (0, self.since_s)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn
        """Take it over; who its certificate belongs to goes along with every request."""
        super().connection_made(transport)
        certificate = transport.get_extra_info("peercert")
        if certificate:
            self.app_state = {"certificate": certificate}
        self._made(self)

    def on_response_complete(self) -> None:
        """It waits for the next request from here on."""
        self.since_s = self.loop.time()
        super().on_response_complete()

    @property
    def waits(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def is_overdue(self, now_s: float) -> bool:
        """Whether it takes longer than anybody may."""
        if not self.waits and self.cycle is not self._known:
            self._known, self.since_s = self.cycle, now_s
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent[0]:
            self._unsent = (unsent, now_s)
        if unsent:
            return now_s - self._unsent[1] > WRITE_S
        if self.waits:
            return now_s - self.since_s > WAIT_S
        return self.cycle.more_body and now_s - self.since_s > BODY_S


class Connections:
    """All of one server's. context: the TLS of now, None for none."""

    def __init__(
        self, config: Config, state: ServerState, context: Callable[[], ssl.SSLContext | None]
    ) -> None:
        self._config = config
        self._state = state
        self._context = context
        self._handshakes: dict[asyncio.Task[None], socket.socket] = {}
        self._complained: set[tuple[str, str]] = set()

    def admit(self, connection: socket.socket, address: str) -> None:
        """Begin with somebody who has just connected."""
        if self._context() is not None and len(self._handshakes) >= HANDSHAKES_MAX:
            next(iter(self._handshakes)).cancel()
        task = asyncio.get_running_loop().create_task(self._greet(connection, address))
        self._handshakes[task] = connection
        task.add_done_callback(self._greeted)

    def look(self) -> None:
        """Cut whoever takes too long; once a second."""
        now_s = asyncio.get_running_loop().time()
        for one in self._mine():
            if one.is_overdue(now_s):
                one.transport.abort()

    async def close(self) -> None:
        """End what has not begun; the others are the server's to end."""
        for task in list(self._handshakes):
            task.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)

    def _mine(self) -> list[Connection]:
        return [one for one in self._state.connections if isinstance(one, Connection)]

    def _greeted(self, task: asyncio.Task[None]) -> None:
        self._handshakes.pop(task, None)

    async def _greet(self, connection: socket.socket, address: str) -> None:
        context = self._context()
        more: dict[str, Any] = {"ssl": context, "ssl_handshake_timeout": HANDSHAKE_S}
        began, one = False, Connection(self._config, self._state, self._make_room)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: one,
                connection,
                **(more if context is not None else {}),
            )
            began = True
        except (OSError, asyncio.IncompleteReadError) as error:
            self._complain(address, error)
        finally:
            if not began:  # cut in the middle it may know its transport, and never hear of its end
                self._state.connections.discard(one)
                connection.close()

    def _make_room(self, newest: Connection) -> None:
        """Who has waited longest goes; where all work, the newcomer does."""
        if len(self._state.connections) <= CONNECTIONS_MAX:
            return
        there = [one for one in self._mine() if not one.transport.is_closing()]
        if len(there) > CONNECTIONS_MAX:
            waiting = [one for one in there if one.waits]
            min(waiting, key=lambda one: one.since_s, default=newest).transport.abort()

    def _complain(self, address: str, error: Exception) -> None:
        """Say why a certificate or TLS was refused, each complaint once."""
        if not isinstance(error, ssl.SSLError):
            return
        said = (address, explain(error))
        if said in self._complained:
            return
        if len(self._complained) >= COMPLAINTS_MAX:
            self._complained.clear()
        self._complained.add(said)
        log.warning("api.handshake_refused address=%s problem=%s", *said)
