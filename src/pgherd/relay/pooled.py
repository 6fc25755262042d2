"""A session of `pool: transaction`: a client that has a server only while it needs one.

Theory of operation. Without a server, what the client says is kept. Once a whole message is there,
or as much of one as fits, a server is wanted (`pools`). It is made to report what this client was
told (`wire.renewal`), which takes a round trip where the two differ and nothing where they do not;
then it gets what was kept, and from then on bytes pass as in `terminated`. When the server says
that it is ready, outside a transaction, with nothing under way and nothing of this client left in
it, it is given back. A client that left something (`wire.tracker`: unclean) keeps its server until
DISCARD ALL or its end.

A client that goes in the middle takes its server with it: PostgreSQL does what had been said,
undoes what was open and leaves. So nothing of it, no lock and no row, ever reaches another client.

Owns one client's turns. Leaves the choice of a server to `pools`, and the server to `lent`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Protocol

from pgherd.model.ids import NodeId
from pgherd.relay.lent import Family, PoolServer
from pgherd.relay.messages import ListenerSettings
from pgherd.relay.session import LINGER_S, PENDING_BYTES_MAX
from pgherd.relay.terminated import Terminated, TerminatedClient, TerminatedHost
from pgherd.relay.transports import pause, resume
from pgherd.route.choose import Bound, Route
from pgherd.wire.answer import ADMIN_SHUTDOWN, Refusal, error_response
from pgherd.wire.lane import TEXT_BYTES_MAX, Lane
from pgherd.wire.query import HEADER_BYTES, TERMINATE
from pgherd.wire.renewal import Renewal, RenewalImpossible
from pgherd.wire.shelf import Moments
from pgherd.wire.startup import ProtocolViolation
from pgherd.wire.tracker import OPENS_CYCLE, Tracker

_NEEDLESS = frozenset(b"Hcdf")
"""Flush and what belongs to no COPY: PostgreSQL answers nothing to them either."""

IDLE = ord("I")
READY = b"Z\x00\x00\x00\x05I"
_CANCELLED = Refusal("57014", "canceling statement due to user request")
_HINT_LOST = "Connect again."


class Lender(Protocol):
    """Where servers come from."""

    moments: Moments

    def want(self, session: Pooled, *, waited_ms: int = 0) -> None:
        """Lend it a server as soon as there is one. waited_ms: for so long it waits already."""

    def leave(self, session: Pooled) -> None:
        """It wants none any more."""

    def back(
        self, session: Pooled, server: PoolServer, settings: dict[str, str], *, clean: bool
    ) -> None:
        """It has done with its server. clean: nothing of it is left there, but these settings."""

    def left(self, session: Pooled, server: PoolServer) -> None:
        """It goes away, and takes its server along."""

    def lost(self, bound: Bound) -> None:
        """Its server is gone, and it goes on elsewhere."""

    def verified(self, user: str, stored: str) -> None:
        """What a user's password is checked with was found out."""


class Pooled(Terminated):
    """See the module's theory of operation.

    lent: the server that it has · is_waiting: it wants one · family: whose servers it may have ·
    aim: where a server is to be · avoid: whose servers it does not want.
    """

    __slots__ = (
        "_lender",
        "_renewal",
        "_waited_ms",
        "aim",
        "avoid",
        "family",
        "is_full",
        "is_riding",
        "is_waiting",
        "lent",
        "number",
        "on_cancel",
        "stored",
    )

    def __init__(self, host: TerminatedHost, lender: Lender, listener: ListenerSettings) -> None:
        super().__init__(host, listener)
        self._lender = lender
        self._renewal: Renewal | None = None
        self.lent: PoolServer | None = None
        self.is_waiting = False
        self.is_full = False
        self.number = 0
        self.on_cancel: Callable[[], None] | None = None
        """What a cancel does in a session that has no servers (`admin`)."""
        self.stored = ""
        """What its password was checked with."""
        self.family: Family | None = None
        self.aim: Route = listener.route
        self.is_riding = False
        self._waited_ms = 0
        self.avoid: Collection[NodeId] = ()

    # What is asked of it

    @property
    def is_lending(self) -> bool:
        """Whether servers come from a pool (a walsender has its own)."""
        return self.family is not None

    @property
    def is_new(self) -> bool:
        return self.tracker is None if self.is_lending else super().is_new

    @property
    def is_running(self) -> bool:
        return self.tracker is not None and not self.closing

    @property
    def is_idle(self) -> bool:
        return super().is_idle and not self.kept

    @property
    def is_busy(self) -> bool:
        return super().is_busy or bool(self.kept)

    @property
    def is_clients_turn(self) -> bool:
        return super().is_clients_turn and not self.is_waiting and self._renewal is None

    @property
    def rides_to(self) -> Route | None:
        """Where its next transaction may pass elsewhere (`rider`); None: nowhere."""
        return None

    @property
    def lane(self) -> Lane | None:
        """What is known of its bytes, once the login is over."""
        return self.tracker if isinstance(self.tracker, Lane) else None

    @property
    def can_move(self) -> bool:
        """A server is borrowed anew for every transaction: there is nothing else to move."""
        return super().can_move and not self.is_lending

    def verified(self, user: str, stored: str) -> None:
        self.stored = stored
        self._lender.verified(user, stored)

    def cancel_waiting(self) -> bool:
        if self.on_cancel is not None:
            self.on_cancel()
            return True
        if not self.is_waiting:
            return False
        if length := _cycle_bytes(self.kept):
            del self.kept[:length]
            self._leave()
            self.say(error_response(_CANCELLED, severity="ERROR") + READY)
            self.ask()
        return True

    @contextlib.contextmanager
    def aimed_at(self) -> Iterator[PoolServer | None]:
        lent = self.lent
        if lent is None:
            yield None
            return
        lent.cancel_begins()
        try:
            yield lent
        finally:
            lent.cancel_ended()

    # Its turns

    def _keep(self, data: bytes) -> None:
        self.kept += data
        if len(self.kept) > PENDING_BYTES_MAX and _is_enough(self.kept):
            pause(self.client)

    def begin(self, settings: dict[str, str], *, wished: Iterable[str], begin: bytes) -> None:
        """The login is over. settings: what the client is told · begin: in these messages."""
        self.tracker = Lane(settings, self._lender.moments, wished)
        self.say(begin)
        if early := self.inbox.take():
            self.client_said(early)
        resume(self.client)

    def client_said(self, data: bytes) -> None:
        if not self.is_lending or self.tracker is None:
            super().client_said(data)
        elif self.server is None or self.kept or self._renewal is not None:
            self._keep(data)
            self.ask()
        elif data == TERMINATE and self.is_idle:
            self._part()
            self.close(linger_s=0, flush_s=LINGER_S)
        elif self.held and not self.tracker.goes_on:
            self._keep(data)
            if self.tracker.is_idle and self.tracker.is_clean:
                self.give_back()
        else:
            self._pass(data)

    def ask(self) -> None:
        """Want a server, if there is something to say to one."""
        if self.server is not None or self.is_waiting or self.closing:
            return
        while (length := _message_bytes(self.kept)) and self.kept[0] in _NEEDLESS:
            if length > len(self.kept):
                break
            del self.kept[:length]
        if self.kept[:1] == TERMINATE[:1]:
            self.close(linger_s=0, flush_s=LINGER_S)
        elif _is_enough(self.kept):
            self.is_waiting = True
            waited_ms, self._waited_ms = self._waited_ms, 0
            self._lender.want(self, waited_ms=waited_ms)
        elif self.client_ended:
            self.close(linger_s=0, flush_s=LINGER_S)
        else:
            resume(self.client)

    def has(self, server: PoolServer, bound: Bound) -> None:
        """A server was lent."""
        tracker = self.tracker
        assert isinstance(tracker, Lane)
        tracker.borrow(server.shelf, server.base)
        self.is_waiting = False
        self.lent, self.server, self.bound, self.key = server, server.transport, bound, server.key
        if self.is_full:
            pause(self.server)
        if server.settings is tracker.settings or server.settings == tracker.settings:
            tracker.settings = server.settings  # the next look is at one thing
            self._say_kept()
        else:
            self._renew(server, tracker)

    def _grant(self, tracker: Lane) -> None:
        """The server keeps this client, and has to have again what the client asked for."""
        lent = self.lent
        if lent is None or tracker.status == ord("E") or self._renewal is not None:
            return
        lent.settings, tracker.owed = tracker.settings_there, {}
        self._renew(lent, tracker)

    def _renew(self, server: PoolServer, tracker: Tracker) -> None:
        renewal = Renewal(tracker.settings, ())
        renewal.settings = dict(server.settings)
        try:
            said = renewal.start()
        except RenewalImpossible as why:
            self._not_renewed(why)
            return
        self._renewal = renewal
        if said and server.transport is not None:
            server.transport.write(said)
        else:
            self._renewed(tracker)

    def _renewed(self, tracker: Tracker) -> None:
        renewal, self._renewal = self._renewal, None
        assert renewal is not None
        self.say(renewal.news())
        tracker.settings = renewal.settings
        self._say_kept()

    def _not_renewed(self, why: Exception) -> None:
        text = f"pgherd: a server cannot take the session over: {why}"
        self.refuse(Refusal(ADMIN_SHUTDOWN, text, _HINT_LOST))

    def _pass(self, data: bytes) -> None:
        """Let the server hear it."""
        tracker, server = self.tracker, self.server
        assert server is not None
        assert isinstance(tracker, Lane)
        try:
            data = tracker.speak(self.guard.client(data))
        except ProtocolViolation as why:
            self._violated(why)
            return
        server.write(data)

    def _tracked(self, tracker: Tracker, data: bytes) -> bytes:
        if isinstance(tracker, Lane):
            return tracker.hear(data)
        return super()._tracked(tracker, data)

    def server_said(self, data: bytes) -> None:
        renewal, tracker = self._renewal, self.tracker
        if renewal is not None:
            assert tracker is not None
            self._hear_renewal(renewal, tracker, data)
            return
        super().server_said(data)
        if self.is_lending and tracker is not None and not self.closing and self.lent is not None:
            self._look_done(tracker)

    def _hear_renewal(self, renewal: Renewal, tracker: Tracker, data: bytes) -> None:
        try:
            renewal.feed(data)
        except (RenewalImpossible, ProtocolViolation) as why:
            self._renewal = None
            self._not_renewed(why)
            return
        if renewal.is_over:
            self._renewed(tracker)
            if self.server is not None and not self.closing:
                self._look_done(tracker)

    def _look_done(self, tracker: Tracker) -> None:
        """Give the server back if nothing of this client is in it."""
        if tracker.is_over or self.closing:
            return
        if tracker.is_idle and tracker.is_clean:
            self.give_back()
        elif isinstance(tracker, Lane) and tracker.owed and tracker.awaits_client:
            self._grant(tracker)
        elif self.client_ended and tracker.awaits_client:
            self.client_finished()

    def give_back(self) -> None:
        """Part with the server; what is not whole of what the client said stays here."""
        lent, tracker = self.lent, self.tracker
        assert lent is not None
        assert tracker is not None
        self.kept[:0] = self.guard.take()
        self.lent = self.server = self.key = self.bound = None
        if self.held:
            self.held = False
            self._owner.hold.forget(self)
        self._return(lent, tracker)
        if self.kept or self.client_ended:
            self.ask()

    def _return(self, lent: PoolServer, tracker: Tracker) -> None:
        assert isinstance(tracker, Lane)
        settings, tracker.owed = tracker.settings_there, {}
        self._lender.back(self, lent, settings, clean=tracker.is_clean)

    def go_on(self) -> None:
        self.held = False
        if self.server is not None or not self.is_lending:
            super().go_on()
        else:
            self.ask()

    # Its end

    def client_finished(self) -> None:
        tracker = self.tracker
        if not self.is_lending or tracker is None:
            super().client_finished()
        elif self.server is None:
            self.ask()
        elif not tracker.is_over and tracker.awaits_client and not self.kept:
            tracker.is_over = True
            self.server.write(TERMINATE)

    def client_lost(self) -> None:
        self._part()
        super().client_lost()

    def close(self, *, linger_s: float, flush_s: float) -> None:
        if not self.closing:
            self._leave()
        super().close(linger_s=linger_s, flush_s=flush_s)

    def cut(self, message: str, hint: str, *, code: str = ADMIN_SHUTDOWN) -> None:
        if self.server is None:
            self._leave()
            self.kept.clear()  # no server has heard of it
        super().cut(message, hint, code=code)

    def server_lost(self) -> None:
        if not self.abandon():
            self.lent = self._renewal = None
            super().server_lost()

    def abandon(self) -> bool:
        """Part with a server that leads no more, and ask for another one, if nothing of this client
        has reached it."""
        lent, tracker = self.lent, self.tracker
        if lent is None or tracker is None or not (tracker.is_idle and tracker.is_clean):
            return False
        if self.closing or self.guard.holds or tracker.is_over:
            return False
        self.lent = self.server = self.key = self.bound = self._renewal = None
        self.held = False
        self._lender.left(self, lent)
        self.ask()
        return True

    def refuse(self, refusal: Refusal) -> None:
        self._leave()
        super().refuse(refusal)

    def _leave(self) -> None:
        if self.is_waiting:
            self.is_waiting = False
            self._lender.leave(self)

    def _part(self) -> None:
        """The client is gone: what becomes of its server."""
        self._leave()
        lent, tracker = self.lent, self.tracker
        if lent is None or tracker is None or self.closing:
            return
        self.lent = self.server = self.key = self.bound = None
        if tracker.is_idle and not self.guard.holds and self._renewal is None:
            self._return(lent, tracker)
            return
        if tracker.client_at_boundary and lent.transport is not None:
            lent.transport.write(TERMINATE)
        self._lender.left(self, lent)


class PooledClient(TerminatedClient):
    """The socket towards such a client."""

    __slots__ = ("_pooled",)

    def __init__(
        self,
        host: TerminatedHost,
        listener: ListenerSettings,
        session: Pooled,
    ) -> None:
        self._pooled = session
        super().__init__(host, listener, session)

    def pause_writing(self) -> None:
        self._pooled.is_full = True
        super().pause_writing()

    def resume_writing(self) -> None:
        self._pooled.is_full = False
        super().resume_writing()


def _message_bytes(kept: bytearray) -> int:
    """How long the first message is; 0: that cannot be seen yet."""
    if len(kept) < HEADER_BYTES:
        return 0
    return 1 + int.from_bytes(kept[1:HEADER_BYTES], "big")


def _cycle_bytes(kept: bytearray) -> int:
    """How much of it is up to what is answered by the first ReadyForQuery; 0: that is not there."""
    at, end = 0, len(kept)
    while end - at >= HEADER_BYTES:
        kind, after = kept[at], at + 1 + int.from_bytes(kept[at + 1 : at + HEADER_BYTES], "big")
        if after > end or after <= at + 1:
            break
        if kind in OPENS_CYCLE:
            return after
        at = after
    return 0


def _is_enough(kept: bytearray) -> bool:
    """Whether there is a whole message, or more than is kept of one."""
    length = _message_bytes(kept)
    return bool(length) and (len(kept) >= length or len(kept) > TEXT_BYTES_MAX)
