"""A session of `pool: transaction` whose bytes may pass elsewhere for a while (`carrying`).

Theory of operation. While it rides, its socket is the shuttle's, and what is known of it here
stands where it was, at rest. Whoever asks what it does is told from there; whoever wants something
of it has it back first, by `come_back`, in whatever state it is. It comes back by itself for what
the shuttle cannot do, and goes on here as if it had been here all the time.

Owns the ways there and back. Leaves what it does here to `pooled`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from pgherd.relay.lent import PoolServer
from pgherd.relay.messages import ListenerSettings
from pgherd.relay.pooled import IDLE, Lender, Pooled
from pgherd.relay.riding import HandedOver, Look, Seat
from pgherd.relay.terminated import TerminatedHost
from pgherd.relay.transports import pause, resume
from pgherd.route.choose import Bound, Route
from pgherd.wire.answer import ADMIN_SHUTDOWN, Refusal
from pgherd.wire.lane import Lane
from pgherd.wire.startup import ProtocolViolation

Meaning = tuple[str, tuple[object, ...]] | None
"""What the statements of one that reads are told by: its database, and what is known of that."""


class Carrier(Protocol):
    """Who knows of those that ride."""

    def rests(self, session: Rider) -> None:
        """It has no server, and needs none now."""

    def come_back(self, session: Rider) -> None:
        """It rides: have it here again."""

    def look(self, session: Rider) -> Look:
        """It rides: see what it does."""

    def changed(self, database: str) -> None:
        """What statements mean in a database is another matter from now on."""


class RiderLender(Lender, Protocol):
    """Where servers come from, and who carries."""

    @property
    def rides(self) -> Carrier:
        """Who knows of those that ride."""

    def bound_of(self, server: PoolServer) -> Bound:
        """Where a server is."""


class Rider(Pooled):
    """See the module's theory of operation.

    is_riding: its bytes pass elsewhere · stays: transactions that it stays here for, and how many
    it would the next time (hesitates).
    """

    __slots__ = ("_rides", "_whence", "hesitates", "stays")

    def __init__(
        self, host: TerminatedHost, lender: RiderLender, listener: ListenerSettings
    ) -> None:
        super().__init__(host, lender, listener)
        self._rides = lender.rides
        self._whence = lender
        self.stays = self.hesitates = 0

    # What is asked of it

    @property
    def is_idle(self) -> bool:
        return self._rides.look(self).is_idle if self.is_riding else super().is_idle

    @property
    def is_busy(self) -> bool:
        return self._rides.look(self).is_busy if self.is_riding else super().is_busy

    @property
    def is_clients_turn(self) -> bool:
        return not self.is_busy if self.is_riding else super().is_clients_turn

    @property
    def waiting_bytes(self) -> tuple[int, int]:
        if self.is_riding:
            seen = self._rides.look(self)
            return seen.out_bytes, seen.server_out_bytes
        return super().waiting_bytes

    @property
    def answered(self) -> tuple[int, int]:
        simple, extended = super().answered
        if self.is_riding:
            seen = self._rides.look(self)
            return simple + seen.simple, extended + seen.extended
        return simple, extended

    def look(self) -> None:
        if self.is_riding:
            self.stirred = self._rides.look(self).stirred or self.stirred

    # Whether it may ride

    @property
    def may_ride(self) -> bool:
        """Whether nothing is known of it that a shuttle would have to know."""
        tracker = self.lane
        if tracker is None or not self.is_lending or self.closing or self.client_ended:
            return False
        if self.server is not None or self.kept or self.is_waiting or self.held or self.guard.holds:
            return False
        return tracker.is_idle and tracker.is_clean and not tracker.is_over and not tracker.owed

    @property
    def rides_to(self) -> Route | None:
        """Where its next transaction may pass elsewhere; None: nowhere."""
        return None if self.stays or self.is_encrypted else self.rides_at

    @property
    def rides_at(self) -> Route:
        """Where its servers are to be while it rides."""
        return self.aim

    @property
    def meaning(self) -> Meaning:
        """What is to be known of its statements besides that they are plain; None: nothing."""
        return None

    def may_pass(self, text: bytes) -> bool:
        """Whether a plain statement may pass elsewhere."""
        return True

    def names_elsewhere(self) -> list[tuple[bytes, bytes, int, int]]:
        """Statements that may be run elsewhere, as `Lane` has them."""
        assert self.lane is not None
        return self.lane.names_elsewhere()

    def was_at(self, bound: Bound) -> None:
        """While it rode its servers were there, the last one at least."""

    # Where its bytes pass

    def rides(self, seat: Seat) -> None:
        """Its bytes pass elsewhere from now on."""
        self.is_riding, self.client = True, seat

    def come_back(self) -> None:
        """Have its bytes pass here again."""
        if self.is_riding:
            self._rides.come_back(self)

    def came_back(self, handed: HandedOver, server: PoolServer | None) -> None:
        """Its bytes pass here again, from where they were elsewhere."""
        seat, tracker = self.client, self.lane
        assert isinstance(seat, Seat)
        assert tracker is not None
        client = self.client = seat.transport
        self.is_riding, self._waited_ms = False, handed.waited_ms
        tracker.passed_elsewhere(simple=handed.simple, extended=handed.extended)
        if handed.unnamed_is_other:
            tracker.unnamed_is(handed.unnamed)
        if handed.client_out:
            client.write(handed.client_out)
        resume(client)
        if server is None:
            if handed.kept:
                self.client_said(handed.kept)
        elif handed.status == IDLE and not handed.is_running:
            server.passes_to(self, handed.server_out)
            self.kept += handed.kept
            self.has(server, self._whence.bound_of(server))
            self._heard_rest(tracker, handed.rest)
        else:
            server.passes_to(self, handed.server_out)
            self._goes_on_with(server, tracker, handed)

    def _goes_on_with(self, server: PoolServer, tracker: Lane, handed: HandedOver) -> None:
        """In the middle of a transaction, or of an answer."""
        tracker.borrow(server.shelf, server.base)
        tracker.status = handed.status
        self.lent, self.server, self.key = server, server.transport, server.key
        self.bound = self._whence.bound_of(server)
        if self.is_full:
            pause(self.server)
        try:
            if handed.is_running:
                tracker.catch_up(handed.said, handed.heard, left=handed.left)
        except ProtocolViolation as why:
            self._violated(why)
            return
        self._heard_rest(tracker, handed.rest)
        if handed.kept and not self.closing:
            self.client_said(handed.kept)

    def _heard_rest(self, tracker: Lane, rest: bytes) -> None:
        if rest:
            self.server_said(rest)
        elif self.lent is not None and self._renewal is None and not self.closing:
            self._look_done(tracker)

    # Whoever wants something of it has it back first

    def begin(self, settings: dict[str, str], *, wished: Iterable[str], begin: bytes) -> None:
        super().begin(settings, wished=wished, begin=begin)
        self._rides.rests(self)

    def give_back(self) -> None:
        super().give_back()
        if not self.kept and not self.client_ended:
            self._rides.rests(self)

    def halt(self) -> None:
        self.come_back()

    def cancel_waiting(self) -> bool:
        self.come_back()
        return super().cancel_waiting()

    @contextlib.contextmanager
    def aimed_at(self) -> Iterator[PoolServer | None]:
        self.come_back()
        with super().aimed_at() as server:
            yield server

    def abandon(self) -> bool:
        self.come_back()
        return super().abandon()

    def refuse(self, refusal: Refusal) -> None:
        self.come_back()
        super().refuse(refusal)

    def cut(self, message: str, hint: str, *, code: str = ADMIN_SHUTDOWN) -> None:
        self.come_back()
        super().cut(message, hint, code=code)

    def close(self, *, linger_s: float, flush_s: float) -> None:
        self.come_back()
        super().close(linger_s=linger_s, flush_s=flush_s)
