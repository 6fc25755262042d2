"""One client session: two sockets, bytes both ways, and an end that loses nothing it need not.

Theory of operation. A session is OPENING until a server is connected, then RELAYING, then CLOSING.

    OPENING   the client's bytes are kept (at most PENDING_BYTES_MAX) and parsed; nothing is sent.
    RELAYING  bytes pass as they are. A direction whose receiver is slow stops its sender's socket,
              so that a session never holds more than WRITE_BYTES_HIGH plus one read per direction.
              While the start is not over, an `Opening` looks on to learn opacity and cancel key.
    CLOSING   no byte reaches the server any more. What the client is owed is flushed, then our
              side is shut down, and what the client still says is read and dropped for a while: a
              close with unread bytes would send RST, which may overtake the last error message.

A cut session gets an ErrorResponse only when it is plain and its server stream stands at a message
boundary (it ended with ReadyForQuery): anywhere else the bytes would be taken for the inside of a
message, and inside TLS for an attack. 57P01 when nothing ran, 08007 when the client had said
something since: then the outcome is not known to us, and no code may claim otherwise.
When the opening is over another engine may take the sockets (`engines`): then `flow` is how this
session asks for what passes elsewhere, and client and server are its transports.
Owns sockets and bytes. Leaves the choice of a server to `proxy` and `dial`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from pgherd.relay.messages import ListenerSettings
from pgherd.relay.rest import Rest
from pgherd.relay.transports import close, end_of_data, pause, peer_of, prepared, resume
from pgherd.relay.waits import Waits
from pgherd.route.choose import Bound
from pgherd.route.entry import Key
from pgherd.wire.answer import ADMIN_SHUTDOWN, OUTCOME_UNKNOWN, Refusal, error_response
from pgherd.wire.opening import Opening, ends_idle, ends_ready
from pgherd.wire.startup import (
    CancelKey,
    CancelRequest,
    Packet,
    ProtocolViolation,
    StartupMessage,
)

READ_BYTES = 64 * 1024
PENDING_BYTES_MAX = 16 * 1024
LINGER_S = 5.0
CUT_LINGER_S = 0.5
FLUSH_LIMIT_S = 30.0
CUT_FLUSH_LIMIT_S = 0.8

_TAIL_BYTES = 6
shared_view = memoryview(bytearray(READ_BYTES))
"""What all sockets are read into: it is emptied before the loop reads another. A view, because
asyncio's TLS fills it in pieces by slicing, and a slice of a bytearray is a copy."""


class Totals:
    """Bytes carried by this process, for the counters."""

    __slots__ = ("from_clients", "from_servers")

    def __init__(self) -> None:
        self.from_clients = 0
        self.from_servers = 0


class Flow(Protocol):
    """Where a session's bytes pass, when that is not here."""

    def look(self, session: Session) -> None:
        """Bring up to date what the session knows of them."""

    def halt(self, halted: bool) -> None:
        """Let nothing pass any more from this moment on, or again."""


class Host(Protocol):
    """What a session needs of the proxy that it lives in."""

    totals: Totals
    waits: Waits

    def session_began(self, session: Session) -> None:
        """A client is there."""

    def session_learned(self, session: Session, opening: Opening) -> None:
        """The session's opening is over: opacity and cancel key are known."""

    def session_named(self, session: Session, startup: StartupMessage) -> bool:
        """User and database are known; False: there is no place for it, and it was told so."""

    def session_cancels(self, session: Session, key: CancelKey) -> None:
        """This is no session but a CancelRequest."""

    def session_violated(self, session: Session, why: ProtocolViolation) -> None:
        """The client does not speak the protocol."""

    def session_ended(self, session: Session) -> None:
        """Both sockets are gone. Called once."""


class Session:
    """See the module's theory of operation."""

    __slots__ = (
        "_ended",
        "_host",
        "_timers",
        "address",
        "bound",
        "by_socket",
        "client",
        "client_ended",
        "client_spoke_last",
        "closing",
        "flow",
        "key",
        "listener",
        "opaque",
        "opening",
        "packets",
        "pending",
        "places",
        "rest",
        "server",
        "stirred",
        "tail",
        "task",
        "turned_away",
        "wants",
    )

    ends_here = False
    """Whether TLS and SCRAM end at this proxy (`terminated`)."""

    def __init__(self, host: Host, listener: ListenerSettings) -> None:
        self._host = host
        self.listener = listener
        self.client: asyncio.Transport | None = None
        self.server: asyncio.Transport | None = None
        self.bound: Bound | None = None
        self.flow: Flow | None = None
        self.opening: Opening | None = Opening()
        self.packets: list[Packet] = []
        self.wants = asyncio.Event()  # a first packet is there, or the client has gone
        self.pending = bytearray()
        self.key: CancelKey | None = None
        self.places: tuple[Key, ...] = ()
        self.opaque = False
        self.tail = b""
        self.client_spoke_last = False
        self.client_ended = False
        self.closing = False
        self.stirred = True  # bytes came since `silence` looked last
        self._timers: list[asyncio.TimerHandle] = []
        self.task: asyncio.Task[None] | None = None
        self._ended = False
        self.rest = Rest()
        self.address = ""
        """The client's, which a balancer may have said (`forwarding`)."""
        self.by_socket = False
        """Whether this node's own server may be reached through its Unix socket (`dial`)."""
        self.turned_away: Refusal | None = None
        """What to tell it instead of giving it a server; a CancelRequest is heard all the same."""

    @property
    def is_gone(self) -> bool:
        """Whether the client has left or is being sent away."""
        return self.closing or self.client is None

    @property
    def is_new(self) -> bool:
        """Whether it has not had a server yet."""
        return self.bound is None

    @property
    def is_running(self) -> bool:
        """Whether bytes pass, the login being over as far as a relay can see."""
        return self.bound is not None and self.opening is None and not self.closing

    @property
    def waiting_bytes(self) -> tuple[int, int]:
        """What client and server have not taken yet."""
        client, server = self.client, self.server
        return (
            client.get_write_buffer_size() if client is not None else 0,
            server.get_write_buffer_size() if server is not None else 0,
        )

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and no transaction is open, as far as a relay can see."""
        self.look()
        return not self.opaque and not self.client_spoke_last and ends_idle(self.tail)

    @property
    def is_busy(self) -> bool:
        """Whether the client said something that has no answer yet."""
        self.look()
        return self.client_spoke_last

    @property
    def is_clients_turn(self) -> bool:
        """Whether nothing goes on until the client says more: nothing runs, or COPY wants data."""
        return not self.is_busy or self.rest.takes_copy

    @property
    def is_resting(self) -> bool:
        """Whether the client is silent by intent: it listens, or takes WAL."""
        self.look()
        return self.rest.listens

    @property
    def can_be_told(self) -> bool:
        """Whether the client would take bytes of ours for a message."""
        self.look()
        is_boundary = ends_ready(self.tail) or self.rest.takes_copy
        return not self.opaque and self.opening is None and is_boundary

    def look(self) -> None:
        """Learn what passed elsewhere."""
        if self.flow is not None:
            self.flow.look(self)

    def halt(self) -> None:
        """Let nothing pass any more: what is asked of the session from here on stays true."""
        if self.flow is not None:
            self.flow.halt(True)

    def halt_if_idle(self) -> bool:
        """Halt, unless the session is not idle: then it goes on."""
        self.halt()
        is_idle = self.is_idle
        if not is_idle and self.flow is not None:
            self.flow.halt(False)
        return is_idle

    def server_side(self) -> ServerSide:
        """What listens to a server that this session is being connected to."""
        return ServerSide(self._host, self)

    def relay(self, server: asyncio.Transport) -> None:
        """Join both sockets: from here on bytes pass."""
        self.server = server
        server.write(bytes(self.pending))
        self.pending.clear()

    def leave_server(self) -> None:
        """Drop the server without ending the session: it turned out to be a CancelRequest."""
        server, self.server = self.server, None
        if server is not None:
            server.abort()

    def say(self, data: bytes) -> None:
        """Tell the client something of our own."""
        if self.client is not None and not self.client.is_closing():
            self.client.write(data)

    def refuse(self, refusal: Refusal) -> None:
        """Send the client away with an error, from OPENING."""
        self.say(error_response(refusal))
        self.close(linger_s=CUT_LINGER_S, flush_s=LINGER_S)

    def cut(self, message: str, hint: str, *, code: str = ADMIN_SHUTDOWN) -> None:
        """End a running session now; see the module's text for what the client is told.

        code: the SQLSTATE where nothing runs.
        """
        if self.closing:
            return
        self.halt()
        if self.can_be_told:
            if not self.is_clients_turn:
                code = OUTCOME_UNKNOWN
                message += "; whether the running statement took effect is not known"
            self.say(error_response(Refusal(code, message, hint)))
        self.close(linger_s=CUT_LINGER_S, flush_s=CUT_FLUSH_LIMIT_S)

    def close(self, *, linger_s: float, flush_s: float) -> None:
        """Go to CLOSING: drop the server, flush the client for flush_s at most, leave it."""
        if self.closing:
            return
        self.closing = True
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()
        if self.server is not None:
            self.server.abort()
        client = self.client
        if client is None:
            return
        self.look()
        self._later(flush_s, client.abort)
        if self.client_ended or client.is_closing():
            close(client)
            return
        end_of_data(client)
        resume(client)
        self._later(linger_s, self._close_flushed)

    def _close_flushed(self) -> None:
        """Close unless bytes are still owed; those have until the flush limit."""
        if self.client is None:
            return
        if self.client.get_write_buffer_size() == 0:
            close(self.client)
        else:
            self._later(CUT_LINGER_S, self._close_flushed)

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(delay_s, act))

    def client_said(self, data: bytes) -> None:
        """Bytes of the client before its opening is over."""
        assert self.opening is not None
        try:
            packets = self.opening.client(data)
            if self.server is None and len(self.pending) + len(data) > PENDING_BYTES_MAX:
                raise ProtocolViolation("more bytes than a startup needs")
        except ProtocolViolation as why:
            self._host.session_violated(self, why)
            return
        for packet in packets:
            if isinstance(packet, CancelRequest):
                self._host.session_cancels(self, packet.key)
                return
            if isinstance(packet, StartupMessage) and not self._host.session_named(self, packet):
                return
        if self.server is not None:
            self.server.write(data)
            self._end_opening()
            return
        self.pending += data
        if packets:
            self.packets += packets
            self.wants.set()

    def server_said(self, data: bytes) -> None:
        """Bytes of the server before the opening is over."""
        assert self.opening is not None
        self.opening.server(data)
        self._end_opening()

    def _end_opening(self) -> None:
        opening = self.opening
        if opening is not None and opening.done:
            self.opaque, self.key, self.opening = opening.opaque, opening.key, None
            self._host.session_learned(self, opening)

    def client_lost(self) -> None:
        """The client's socket is gone. What it had sent still goes out, for a limited time."""
        self.client = None
        self.wants.set()
        if self.task is not None:
            self.task.cancel()
        if self.server is not None and not self.closing:
            close(self.server)
            self._later(LINGER_S, self.server.abort)
        self._end_if_over()

    def server_lost(self) -> None:
        """The server's socket is gone: the client gets what it is owed, then goes too."""
        self.server = None
        self.close(linger_s=LINGER_S, flush_s=FLUSH_LIMIT_S)
        self._end_if_over()

    def _end_if_over(self) -> None:
        if self.client is None and self.server is None and not self._ended:
            self._ended = True
            for timer in self._timers:
                timer.cancel()
            self._timers.clear()
            self._host.session_ended(self)


class ClientSide(asyncio.BufferedProtocol):
    """The socket towards the client."""

    __slots__ = ("_host", "_session", "_totals")

    def __init__(
        self, host: Host, listener: ListenerSettings, session: Session | None = None
    ) -> None:
        self._host = host
        self._session = session or Session(host, listener)
        self._totals = host.totals

    @property
    def session(self) -> Session:
        """What its bytes belong to."""
        return self._session

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._session.client = prepared(transport)
        self._session.address = self._session.address or peer_of(transport)
        self._host.session_began(self._session)

    def get_buffer(self, sizehint: int) -> memoryview:
        return shared_view

    def buffer_updated(self, nbytes: int) -> None:
        session = self._session
        if session.closing:
            return
        self._totals.from_clients += nbytes
        data = bytes(shared_view[:nbytes])
        session.client_spoke_last = session.stirred = True
        if session.rest.takes_copy:
            session.rest.client(data)
        if session.opening is None:
            if session.server is not None:
                session.server.write(data)
        else:
            session.client_said(data)

    def eof_received(self) -> bool:
        session = self._session
        session.client_ended = True
        if session.closing or session.server is None:
            return False  # nothing is owed to it any more, or it gave up waiting
        if not session.server.is_closing():
            end_of_data(session.server)
        return True

    def pause_writing(self) -> None:
        pause(self._session.server)

    def resume_writing(self) -> None:
        resume(self._session.server)

    def connection_lost(self, exc: Exception | None) -> None:
        self._session.client_lost()


class Side(asyncio.BufferedProtocol):
    """A socket towards PostgreSQL. lost_early: it was closed before it was anybody's."""

    __slots__ = ("lost_early", "transport")

    def __init__(self) -> None:
        self.lost_early = False
        self.transport: asyncio.Transport | None = None


class ServerSide(Side):
    """The socket towards PostgreSQL of one session."""

    __slots__ = ("_session", "_totals")

    def __init__(self, host: Host, session: Session) -> None:
        super().__init__()
        self._session = session
        self._totals = host.totals

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = prepared(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return shared_view

    def buffer_updated(self, nbytes: int) -> None:
        session = self._session
        client = session.client
        if session.closing or client is None:
            return
        self._totals.from_servers += nbytes
        data = bytes(shared_view[:nbytes])
        session.client_spoke_last = False
        session.stirred = True
        tail = session.tail = data[-_TAIL_BYTES:]
        if not session.opaque:
            session.rest.server(data, is_ready=tail[:1] == b"Z")
        if session.opening is not None:
            session.server_said(data)
        client.write(data)

    def eof_received(self) -> bool:
        return False  # PostgreSQL never half-closes: flush the client and leave

    def pause_writing(self) -> None:
        pause(self._session.client)

    def resume_writing(self) -> None:
        resume(self._session.client)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._session.server is self.transport and self.transport is not None:
            self._session.server_lost()
        else:
            self.lost_early = True
        self.transport = None
