"""A session whose TLS and SCRAM end here (`pool: session`): its sockets and its bytes.

Theory of operation. Until the login is over on both sides, what each side says collects in an
`Inbox` that a coroutine (`entrance`) reads. From then on bytes pass as in `session`, and a tracker
is shown them: so it is known where messages end, whether anything is under way, and an error of our
own can be said between any two messages, inside TLS too.
A server that stopped waiting for a standby's word says so in a warning and then reports success:
neither reaches the client. It is told that the outcome is not known, and that is its end.
A session that is held, or without a server because it moves, keeps what its client says (`hold`,
`moving`); nothing of it has been shown to the tracker, which knows only what a server was sent.
A client that half-closes is ended by a Terminate message of ours behind its last one: the server
answers what came before and leaves, with TLS on its side as without.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from pgherd.relay.hold import Hold
from pgherd.relay.messages import ListenerSettings
from pgherd.relay.session import (
    CUT_FLUSH_LIMIT_S,
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
from pgherd.wire.answer import ADMIN_SHUTDOWN, OUTCOME_UNKNOWN, Refusal, error_response
from pgherd.wire.guard import Guard
from pgherd.wire.login import Authenticated
from pgherd.wire.query import TERMINATE
from pgherd.wire.startup import CancelKey, ProtocolViolation
from pgherd.wire.tracker import Tracker

if TYPE_CHECKING:
    from pgherd.relay.lent import PoolServer

_UNCONFIRMED = (
    "pgherd: the wait for a standby was cancelled; the transaction is committed on the primary,"
    " and whether a failover would keep it is not known"
)
_HINT_UNCONFIRMED = "Connect again and look whether it took effect."
FAREWELLS = (b"C57P01\0", b"C57P02\0")
"""What a server says to idle sessions that ends, in order or in a crash."""

_LOST = "pgherd: the connection to the server was lost"
_HINT_LOST = "Connect again."


class TerminatedHost(Host, Protocol):
    """What such a session needs of its proxy besides."""

    hold: Hold


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
    """See the module's theory of operation.

    held: nothing may begin at its server · kept: what its client said meanwhile · proved: what it
    can log in with once more.
    """

    __slots__ = (
        "_owner",
        "guard",
        "held",
        "in_handshake",
        "inbox",
        "is_encrypted",
        "kept",
        "own_key",
        "proved",
        "tracker",
    )

    ends_here = True

    def __init__(self, host: TerminatedHost, listener: ListenerSettings) -> None:
        super().__init__(host, listener)
        self._owner = host
        self.held = False
        self.kept = bytearray()
        self.proved: Authenticated | None = None
        self.opening = None
        self.inbox = Inbox()
        self.tracker: Tracker | None = None
        self.guard = Guard(has_floor=False)
        self.own_key: CancelKey | None = None
        self.in_handshake = False
        self.is_encrypted = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and no transaction is open."""
        return self.tracker is not None and self.tracker.is_idle and not self.guard.holds

    @property
    def can_move(self) -> bool:
        """Whether another server process could go on with it unnoticed."""
        tracker = self.tracker
        if tracker is None or self.proved is None or self.is_gone or self.bound is None:
            return False
        if self.client_ended and not self.kept:
            return False  # its server leaves because it was told to: nothing more will be said
        return tracker.is_idle and tracker.is_clean and not tracker.is_over

    @property
    def is_busy(self) -> bool:
        """Whether the client said something that has no answer yet."""
        return self.tracker is not None and (self.tracker.is_busy or self.guard.holds)

    @property
    def is_clients_turn(self) -> bool:
        """Whether nothing goes on until the client says more."""
        return self.tracker is not None and self.tracker.awaits_client and not self.guard.holds

    @property
    def answered(self) -> tuple[int, int]:
        """How many cycles its servers have ended: those of one Query, and all others."""
        return self.tracker.answered if self.tracker is not None else (0, 0)

    @property
    def is_resting(self) -> bool:
        """Whether the client is silent by intent."""
        return self.tracker is not None and self.tracker.is_resting

    @property
    def takes_wal(self) -> bool:
        """Whether it is busy without an end: nobody waits for that."""
        return self.tracker is not None and self.tracker.takes_wal

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

    @contextlib.contextmanager
    def aimed_at(self) -> Iterator[PoolServer | None]:
        """While a cancel is on its way to its server; the server, if others may get it."""
        yield None

    def cancel_waiting(self) -> bool:
        """Answer what waits for a server as PostgreSQL answers a cancelled statement."""
        return False

    def abandon(self) -> bool:
        """Part with its server, if another one does as well at once."""
        return False

    def verified(self, user: str, stored: str) -> None:
        """What the client's password is checked with was found out."""

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

    def rejoin(self, server: asyncio.Transport, settings: dict[str, str], *, news: bytes) -> None:
        """Go on at another server. news: what the client has to know of it."""
        assert self.tracker is not None
        self.server = server
        self.tracker.restart(settings)
        self.say(news)
        self.go_on()

    def go_on(self) -> None:
        """Nothing is held any more: what was kept is said now."""
        self.held = False
        self._say_kept()
        if self.client_ended:
            self.client_finished()

    def _say_kept(self) -> None:
        kept, self.kept = bytes(self.kept), bytearray()
        resume(self.client)
        if kept:
            self.client_said(kept)

    def _keep(self, data: bytes) -> None:
        self.kept += data
        if len(self.kept) > PENDING_BYTES_MAX:
            pause(self.client)

    def client_said(self, data: bytes) -> None:
        """Bytes of the client."""
        tracker, server = self.tracker, self.server
        if tracker is None:
            self.inbox.put(data)
            if len(self.inbox) > PENDING_BYTES_MAX:
                pause(self.client)
            return
        if server is None or self.kept or (self.held and not tracker.goes_on):
            self._keep(data)
            return
        try:
            data = self.guard.client(data)
            tracker.client(data)
        except ProtocolViolation as why:
            self._violated(why)
            return
        server.write(data)

    def server_said(self, data: bytes) -> None:
        """Bytes of the server, after its login."""
        tracker = self.tracker
        assert tracker is not None
        if is_farewell(data) and tracker.is_idle and self._owner.hold.adrift(self, data):
            return
        try:
            data = self._tracked(tracker, data)
        except ProtocolViolation as why:
            self._violated(why)
            return
        if tracker.wait_cancelled:
            self._unconfirmed(data, data.rfind(tracker.wait_cancelled))
            return
        self.say(data)
        if self.held:
            self._look_held(tracker)

    def _tracked(self, tracker: Tracker, data: bytes) -> bytes:
        """What the client gets of a server's bytes. Raises ProtocolViolation."""
        tracker.server(data)
        return data

    def _unconfirmed(self, data: bytes, at: int) -> None:
        """A commit is in the server's own log and perhaps nowhere else: that is no success.

        at: where the server says so. Below 0 it began to say so earlier, and the client is in the
        middle of that message: then the connection just ends.
        """
        self._host.waits.unconfirmed(self.bound)
        if at >= 0:
            self.say(data[:at])
            refusal = Refusal(OUTCOME_UNKNOWN, _UNCONFIRMED, _HINT_UNCONFIRMED)
            self.say(error_response(refusal))
        self.close(linger_s=CUT_LINGER_S, flush_s=CUT_FLUSH_LIMIT_S)

    def _look_held(self, tracker: Tracker) -> None:
        if tracker.is_idle:
            self._owner.hold.settled(self)
        elif self.kept and tracker.goes_on:
            self._say_kept()

    def server_lost(self) -> None:
        """The server's socket is gone."""
        if self._owner.hold.adrift(self):
            return
        if self._is_owed_a_word():
            self._say_lost()
        super().server_lost()

    def _is_owed_a_word(self) -> bool:
        tracker = self.tracker
        if tracker is None or tracker.is_over or self.is_gone or self.client_ended:
            return False
        return self.can_be_told

    def _say_lost(self) -> None:
        code, text = ADMIN_SHUTDOWN, _LOST
        if self.is_busy:
            code = OUTCOME_UNKNOWN
            text += "; whether the running statement took effect is not known"
        self.say(error_response(Refusal(code, text, _HINT_LOST)))

    def _violated(self, why: ProtocolViolation) -> None:
        """Somebody says what is no message: told where the client can tell it from the rest."""
        if self.can_be_told:
            self._host.session_violated(self, why)
        else:
            self.close(linger_s=CUT_LINGER_S, flush_s=LINGER_S)

    def client_finished(self) -> None:
        """The client will say nothing more, but may still read."""
        server, tracker = self.server, self.tracker
        if self.kept and not self.kept.startswith(TERMINATE):
            return  # it comes after what is kept
        if server is None and tracker is not None:
            self.close(linger_s=0, flush_s=LINGER_S)
        if server is None or tracker is None or server.is_closing():
            return
        if tracker.client_at_boundary and not self.guard.holds:
            server.write(TERMINATE)
        else:
            end_of_data(server)


def is_farewell(data: bytes) -> bool:
    """Whether an idle session's server says that it ends (ErrorResponse, or a notice of it)."""
    return data[:1] in b"EN" and any(code in data for code in FAREWELLS)


class TerminatedClient(ClientSide):
    """The socket towards the client."""

    __slots__ = ("_terminated",)

    def __init__(
        self,
        host: TerminatedHost,
        listener: ListenerSettings,
        session: Terminated | None = None,
    ) -> None:
        self._terminated = session or Terminated(host, listener)
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
