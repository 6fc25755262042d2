"""A session whose TLS and SCRAM end here (`pool: session`): its sockets and its bytes.

Theory of operation. Until the login is over on both sides, what each side says collects in an
`Inbox` that a coroutine (`entrance`) reads. From then on bytes pass as in `session`, and a tracker
is shown them: so it is known where messages end, whether anything is under way, and an error of our
own can be said between any two messages, inside TLS too.
A client that half-closes is ended by a Terminate message of ours behind its last one: the server
answers what came before and leaves, with TLS on its side as without.
"""

from __future__ import annotations

import asyncio

from pgherd.relay.messages import ListenerSettings
from pgherd.relay.session import (
    CUT_LINGER_S,
    LINGER_S,
    PENDING_BYTES_MAX,
    ClientSide,
    Host,
    ServerSide,
    Session,
    shared_view,
)
from pgherd.relay.transports import end_of_data, pause, resume
from pgherd.wire.query import TERMINATE
from pgherd.wire.startup import CancelKey, ProtocolViolation
from pgherd.wire.tracker import Tracker


class Inbox:
    """What a side said while somebody logs in, for one reader."""

    __slots__ = ("_bytes", "_ended", "_reader")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._reader: asyncio.Future[None] | None = None
        self._ended = False

    def __len__(self) -> int:
        return len(self._bytes)

    def put(self, data: bytes) -> None:
        """Something was said."""
        self._bytes += data
        self._wake()

    def end(self) -> None:
        """Nothing more will be."""
        self._ended = True
        self._wake()

    def take(self) -> bytes:
        """All that is there now."""
        taken = bytes(self._bytes)
        self._bytes.clear()
        return taken

    async def more(self) -> bytes:
        """Wait for something. Raises ConnectionResetError when nothing more will come."""
        while not self._bytes:
            if self._ended:
                raise ConnectionResetError("closed the connection")
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self.take()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Terminated(Session):
    """See the module's theory of operation."""

    __slots__ = ("in_handshake", "inbox", "is_encrypted", "own_key", "tracker")

    ends_here = True

    def __init__(self, host: Host, listener: ListenerSettings) -> None:
        super().__init__(host, listener)
        self.opening = None
        self.inbox = Inbox()
        self.tracker: Tracker | None = None
        self.own_key: CancelKey | None = None
        self.in_handshake = False
        self.is_encrypted = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and no transaction is open."""
        return self.tracker is not None and self.tracker.is_idle

    @property
    def is_busy(self) -> bool:
        """Whether the client said something that has no answer yet."""
        return self.tracker is not None and self.tracker.is_busy

    @property
    def is_clients_turn(self) -> bool:
        """Whether nothing goes on until the client says more."""
        return self.tracker is not None and self.tracker.awaits_client

    @property
    def is_resting(self) -> bool:
        """Whether the client is silent by intent."""
        return self.tracker is not None and self.tracker.is_resting

    @property
    def can_be_told(self) -> bool:
        """Whether the client would take bytes of ours for a message."""
        return self.tracker is not None and self.tracker.at_boundary

    def server_side(self) -> TerminatedServer:
        """What listens to a server that this session is being connected to."""
        return TerminatedServer(self._host, self)

    def say(self, data: bytes) -> None:
        """Tell the client something; in the middle of a TLS handshake it would be garbage."""
        if not self.in_handshake:
            super().say(data)

    async def heard(self) -> bytes:
        """What the client says next during its login."""
        said = await self.inbox.more()
        resume(self.client)
        return said

    def join(self, server: asyncio.Transport, *, greeting: bytes, begin: bytes) -> None:
        """The login is over on both sides: from here on bytes pass.

        greeting: the server's messages that the tracker must know · begin: what the client is told.
        """
        self.server = server
        tracker = Tracker()
        tracker.server(greeting)
        self.tracker = tracker
        self.say(begin)
        if early := self.inbox.take():
            self.client_said(early)
        resume(self.client)

    def client_said(self, data: bytes) -> None:
        """Bytes of the client."""
        tracker, server = self.tracker, self.server
        if tracker is None:
            self.inbox.put(data)
            if len(self.inbox) > PENDING_BYTES_MAX:
                pause(self.client)
            return
        if server is None:
            return
        try:
            tracker.client(data)
        except ProtocolViolation as why:
            self._violated(why)
            return
        server.write(data)

    def server_said(self, data: bytes) -> None:
        """Bytes of the server, after its login."""
        assert self.tracker is not None
        try:
            self.tracker.server(data)
        except ProtocolViolation as why:
            self._violated(why)
            return
        self.say(data)

    def _violated(self, why: ProtocolViolation) -> None:
        """Somebody says what is no message: told where the client can tell it from the rest."""
        if self.can_be_told:
            self._host.session_violated(self, why)
        else:
            self.close(linger_s=CUT_LINGER_S, flush_s=LINGER_S)

    def client_finished(self) -> None:
        """The client will say nothing more, but may still read."""
        server, tracker = self.server, self.tracker
        if server is None or tracker is None or server.is_closing():
            return
        if tracker.client_at_boundary:
            server.write(TERMINATE)
        else:
            end_of_data(server)


class TerminatedClient(ClientSide):
    """The socket towards the client."""

    __slots__ = ("_terminated",)

    def __init__(self, host: Host, listener: ListenerSettings) -> None:
        self._terminated = Terminated(host, listener)
        super().__init__(host, listener, self._terminated)

    def buffer_updated(self, nbytes: int) -> None:
        session = self._terminated
        if not session.closing:
            self._totals.from_clients += nbytes
            session.stirred = True
            session.client_said(bytes(shared_view[:nbytes]))

    def eof_received(self) -> bool:
        session = self._terminated
        session.client_ended = True
        session.inbox.end()
        if session.closing or session.is_encrypted or session.tracker is None:
            return False
        session.client_finished()
        return True


class TerminatedServer(ServerSide):
    """The socket towards PostgreSQL."""

    __slots__ = ("_terminated", "inbox")

    def __init__(self, host: Host, session: Terminated) -> None:
        super().__init__(host, session)
        self._terminated = session
        self.inbox = Inbox()

    def buffer_updated(self, nbytes: int) -> None:
        session = self._terminated
        data = bytes(shared_view[:nbytes])
        if session.server is None or session.server is not self.transport:
            self.inbox.put(data)
        elif not session.closing and session.client is not None:
            self._totals.from_servers += nbytes
            session.stirred = True
            session.server_said(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.inbox.end()
        super().connection_lost(exc)
