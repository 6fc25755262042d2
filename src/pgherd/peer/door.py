"""The listening side: let connections in, find out who they are, hand their frames on.

Owns the TLS handshake of incoming connections (done here rather than by the server, so that a
refusal has a reason in the log), the greeting, and the answers that go back. One connection per
peer and lane: a newer one replaces the older.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from pgherd.model.errors import OperatorError
from pgherd.model.ids import NodeId
from pgherd.peer import frame as frames
from pgherd.peer.errors import PeerRefused
from pgherd.peer.frame import (
    Channel,
    FrameError,
    Hello,
    Lane,
    Request,
    Response,
    Welcome,
    pack,
)
from pgherd.peer.link import SILENT_TICKS_MAX
from pgherd.peer.listener import Listener, bind
from pgherd.peer.storemarks import StoreMarks
from pgherd.peer.wire import Wire, explain
from pgherd.pki.contexts import Contexts
from pgherd.telemetry import logs

GREETING_S_MAX = 5.0
STRANGERS_MAX = 64
GUESTS_MAX = 128
REQUESTS_PER_GUEST_MAX = 64
COMPLAINTS_MAX = 256

log = logs.get("peer")
OnGuestFrame = Callable[[NodeId, Channel, bytes], None]
OnRequest = Callable[[NodeId, str, bytes], Awaitable[bytes]]


class Door:
    """The listening socket and every connection that came in through it."""

    def __init__(
        self,
        *,
        me: NodeId,
        listen: tuple[str, int],
        contexts: Contexts | None,
        on_frame: OnGuestFrame,
        on_request: OnRequest,
        on_arrival: Callable[[NodeId, tuple[str, int]], None],
        marks: StoreMarks,
    ) -> None:
        self._me, self._listen, self._contexts = me, listen, contexts
        self._on_frame, self._on_request, self._on_arrival = on_frame, on_request, on_arrival
        self._marks = marks
        self._listener: Listener | None = None
        self._strangers: set[Guest] = set()
        self._guests: dict[tuple[NodeId, int], Wire] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._complained: set[tuple[str, str]] = set()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._listener is not None
        return self._listener.port

    async def open(self) -> None:
        """Listen. Raises OperatorError when the port cannot be had or a certificate is wrong."""
        if self._contexts is not None:
            await asyncio.to_thread(self._contexts.server)
        host, port = self._listen
        try:
            self._listener = Listener(await bind(host, port), self._admit)
        except OSError as error:
            hint = "stop what uses the port, or change node.address.raft"
            raise OperatorError(
                f"cannot listen on {host}:{port}: {explain(error)}", hint
            ) from error

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        if self._listener is not None:
            self._listener.close()
        for wire in [*self._guests.values(), *(guest.wire for guest in self._strangers)]:
            wire.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def tick(self) -> None:
        """Once a second: cut those who gave no sign of life for long."""
        for wire in list(self._guests.values()):
            wire.silent_ticks += 1
            if wire.silent_ticks > SILENT_TICKS_MAX:
                wire.abort(TimeoutError("no sign of life"))

    def guests(self) -> set[NodeId]:
        """Who is connected to us."""
        return {node for node, _ in self._guests}

    def _admit(self, connection: socket.socket, address: str) -> None:
        if len(self._strangers) >= STRANGERS_MAX:
            connection.close()
            return
        guest = Guest(self)
        self._strangers.add(guest)
        self._spawn(self._receive(guest, connection, address))

    async def _receive(self, guest: Guest, connection: socket.socket, address: str) -> None:
        """Handshake and greeting of one connection, within a deadline."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(GREETING_S_MAX):
                context = await asyncio.to_thread(self._contexts.server) if self._contexts else None
                await loop.connect_accepted_socket(lambda: guest.wire, connection, ssl=context)
                await guest.greeted
        except (OSError, FrameError, PeerRefused, OperatorError) as error:
            self._complain(address, explain(error))
            guest.wire.abort(error)
        finally:
            self._strangers.discard(guest)
            if guest.wire.transport is None:
                connection.close()
            guest.forget_greeting()

    def welcome(self, guest: Guest, hello: Hello) -> None:
        """Check a greeting and answer it. Raises PeerRefused."""
        name = guest.wire.peer_name()
        if self._contexts is not None and name != hello.node:
            raise PeerRefused(f"the certificate is of {name}, the greeting of {hello.node}")
        if hello.to != self._me:
            raise PeerRefused(f"this is {self._me}, not {hello.to}")
        if hello.node == self._me:
            raise PeerRefused(f"another daemon runs under this node's name, {self._me}")
        protocol = frames.agreed(hello.oldest, hello.newest)
        if not protocol:
            raise PeerRefused(
                f"you speak protocols {hello.oldest} to {hello.newest}, this node {frames.OLDEST} "
                f"to {frames.NEWEST}: upgrade the older one"
            )
        if went_back := self._marks.problem(hello.store):
            raise PeerRefused(went_back)
        self._marks.note(hello.store)
        key = (hello.node, int(Lane(hello.lane)) if hello.lane in (0, 1) else 0)
        older = self._guests.pop(key, None)
        if older is None and len(self._guests) >= GUESTS_MAX:
            raise PeerRefused("too many connections")
        if older is not None:
            older.abort()
        self._guests[key] = guest.wire
        guest.wire.splitter.greeted()
        guest.wire.send_now(pack(Channel.WELCOME, frames.encode(Welcome(self._me, protocol))))
        self._on_arrival(hello.node, hello.address)

    def left(self, guest: Guest, error: Exception | None) -> None:
        """Forget a connection; a broken rule is worth a line in the log."""
        for key, wire in list(self._guests.items()):
            if wire is guest.wire:
                del self._guests[key]
        if isinstance(error, FrameError) and guest.node is not None:
            log.warning("peer.frame_refused", peer=guest.node, problem=str(error))

    def on_frame(self, guest: Guest, channel: Channel, body: bytes) -> None:
        """Handle a frame of a known peer."""
        assert guest.node is not None
        match channel:
            case Channel.RAFT | Channel.REPORT | Channel.LATER:
                self._on_frame(guest.node, channel, body)
            case Channel.PING:
                frames.decode_number(body)
                guest.wire.outbox.put_urgent(pack(Channel.PONG, body))
                guest.wire.flush_soon()
            case Channel.REQUEST:
                request = frames.decode_request(body)
                if guest.requests >= REQUESTS_PER_GUEST_MAX:
                    guest.answer(Response(request.id, b"", "too many requests at once"))
                else:
                    guest.requests += 1
                    self._spawn(self._serve(guest, guest.node, request))
            case _:
                raise FrameError(f"{channel.name} has no place on an incoming connection")

    async def _serve(self, guest: Guest, node: NodeId, request: Request) -> None:
        """Run a request's handler and send back what it says."""
        try:
            body = await self._on_request(node, request.kind, request.body)
            guest.answer(Response(request.id, body))
        except PeerRefused as refusal:
            guest.answer(Response(request.id, b"", str(refusal)))
        except Exception as error:
            guest.answer(Response(request.id, b"", f"internal error: {type(error).__name__}"))
            log.exception("peer.request_failed", peer=node, kind=request.kind)
        finally:
            guest.requests -= 1

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _complain(self, address: str, problem: str) -> None:
        """Log a refused connection, the same complaint once."""
        if (address, problem) in self._complained:
            return
        if len(self._complained) >= COMPLAINTS_MAX:
            self._complained.clear()
        self._complained.add((address, problem))
        log.warning("peer.connection_refused", address=address, problem=problem)


class Guest:
    """An incoming connection: nobody until its greeting was accepted."""

    def __init__(self, door: Door) -> None:
        self.node: NodeId | None = None
        self.requests = 0
        self.wire = Wire(on_frame=self._on_frame, on_lost=self._on_lost)
        self._door = door
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def forget_greeting(self) -> None:
        """Nobody waits for the greeting any more, nor for why there was none."""
        if not self.greeted.cancel() and not self.greeted.cancelled():
            self.greeted.exception()

    def answer(self, response: Response) -> None:
        """Send a response; one that does not fit becomes a refusal."""
        try:
            answer = pack(Channel.RESPONSE, frames.encode(response))
        except FrameError as error:
            answer = pack(Channel.RESPONSE, frames.encode(Response(response.id, b"", str(error))))
        self.wire.outbox.put_call(answer)
        self.wire.flush_soon()

    def _on_frame(self, wire: Wire, channel: Channel, body: bytes) -> None:
        if self.node is not None:
            self._door.on_frame(self, channel, body)
            return
        if channel is not Channel.HELLO:
            raise FrameError(f"{channel.name} before a greeting")
        hello = frames.decode_hello(body)
        try:
            self._door.welcome(self, hello)
        except PeerRefused as refusal:
            wire.send_now(pack(Channel.REFUSED, frames.encode(refusal.message)))
            wire.fail(refusal)
            return
        self.node = hello.node
        if not self.greeted.done():
            self.greeted.set_result(None)

    def _on_lost(self, _wire: Wire, error: Exception | None) -> None:
        self._door.left(self, error)
        if not self.greeted.done():
            self.greeted.set_exception(error or ConnectionResetError("it said nothing"))
