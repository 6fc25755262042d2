"""A session that may have to see what was written before it, and asks servers how far they are.

Theory of operation. A read that has a mark to see (`route.mark`) asks its replica how far it has
replayed, again and again until that is far enough or the time is up, and then goes to the primary.
What a session wrote is marked by a question to the primary behind the commit, before its next
statement. A question takes the place of a renewal: nothing of the client's passes meanwhile.

Owns the questions. What a session does besides is `routed`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from pgherd.model.ids import Lsn
from pgherd.relay.learning import Learnt
from pgherd.relay.messages import ListenerSettings, ProxySettings
from pgherd.relay.positions import REPLAYED, PositionAsked
from pgherd.relay.rider import Rider, RiderLender
from pgherd.relay.tally import Tally
from pgherd.relay.terminated import TerminatedHost
from pgherd.route.choose import Snapshot
from pgherd.route.mark import Mark
from pgherd.route.statement import Kind
from pgherd.route.steering import Decision, Steering
from pgherd.wire.renewal import Renewal
from pgherd.wire.startup import ProtocolViolation
from pgherd.wire.tracker import Tracker

POLL_S = 0.002
"""Between two questions to a replica that is not far enough yet."""

BEHIND_ALL = Lsn((1 << 64) - 1)


class RoutedHost(TerminatedHost, Protocol):
    """What such a session needs of its proxy besides."""

    learnt: Learnt
    settings: ProxySettings
    snapshot: Snapshot | None
    tally: Tally


class Positioned(Rider):
    """See the module's theory of operation. steering: where its statements go, and why."""

    __slots__ = ("_decision", "_home", "_in_vain", "_until_s", "steering")

    def __init__(self, host: RoutedHost, lender: RiderLender, listener: ListenerSettings) -> None:
        super().__init__(host, lender, listener)
        self._home = host
        self.steering = Steering(host.settings.read_your_writes)
        self._decision: Decision | None = None
        self._until_s = 0.0
        self._in_vain: Mark | None = None

    def _begin(self) -> None:
        """The server that was wanted is there, and far enough."""
        raise NotImplementedError

    def _advance(self) -> None:
        """Do what can be done now with what was kept."""
        raise NotImplementedError

    def _to_primary(self, kind: Kind, why: str) -> None:
        """What is kept is for the primary, whatever it is."""
        raise NotImplementedError

    def _wants_position(self) -> bool:
        """Whether the replica has to be asked first; or it is given back, as it cannot be."""
        mark, bound = self.steering.needed, self.bound
        assert bound is not None
        if mark is None or self._decision is None:
            return False
        if bound.term != mark.term or bound.backend.epoch != mark.term:
            why = f"read-your-writes: {bound.backend.name} is not known to follow term {mark.term}"
            self._to_primary(Kind.READ, why)
            return True
        wait_s = self._home.settings.read_your_writes_wait_ms / 1000
        self._until_s = asyncio.get_running_loop().time() + wait_s
        self._ask_position(REPLAYED, self._replayed_at)
        return True

    def _ask_position(self, statement: bytes, then: Callable[[Lsn | None], None]) -> None:
        assert self.server is not None
        self._renewal = PositionAsked(statement, then)
        self.server.write(statement)

    def _replayed_at(self, lsn: Lsn | None) -> None:
        """A replica has said how far it is."""
        mark, bound = self.steering.needed, self.bound
        assert bound is not None
        if mark is None or (lsn is not None and lsn >= mark.lsn):
            self._begin()
            return
        loop = asyncio.get_running_loop()
        if lsn is None or self._in_vain == mark or loop.time() >= self._until_s:
            self._in_vain = mark
            why = f"read-your-writes: {bound.backend.name} has not replayed {mark}"
            self._to_primary(Kind.READ, why)
            return
        self._renewal = again = PositionAsked(REPLAYED, self._replayed_at)
        loop.call_later(POLL_S, self._ask_again, again)

    def _ask_again(self, question: PositionAsked) -> None:
        if self._renewal is question and self.server is not None:
            self.server.write(question.statement)

    def _written_at(self, lsn: Lsn | None) -> None:
        """The primary has said where what was written ends; unknown is behind everything."""
        tracker, bound = self.tracker, self.bound
        assert tracker is not None
        assert bound is not None
        self.steering.wrote(Mark(bound.term, BEHIND_ALL if lsn is None else lsn))
        self._look_done(tracker)
        if self.server is not None:
            self._advance()

    def _hear_renewal(self, renewal: Renewal, tracker: Tracker, data: bytes) -> None:
        if not isinstance(renewal, PositionAsked):
            super()._hear_renewal(renewal, tracker, data)
            return
        try:
            renewal.feed(data)
        except ProtocolViolation as why:
            self._violated(why)
            return
        if renewal.is_over:
            self._renewal = None
            renewal.then(renewal.answer)
