"""A session of `route: auto`: each statement goes to the primary or to a replica.

Theory of operation. Like any session of `pool: transaction` it has a server only while it needs
one. Here a server is wanted for one cycle at a time (`wire.cycles`), and where it is comes from
what the cycle says (`route.steering`). On the primary bytes then pass as in `pooled`. On a replica
the next cycle waits until this one is answered, because it may belong elsewhere; a transaction that
only reads keeps its replica to its end.

The first words of a replica are kept back (`trial`): what it refuses is said once more, to the
primary; what is lost with its connection, to another replica. So a wrong guess costs a round trip.
Not within a transaction, whose snapshot another server does not have.

Owns one client's ways. Leaves what statements are to `learning`, and servers to `pools`.
"""

from __future__ import annotations

import re

import msgspec

from pgherd.relay.journal import say
from pgherd.relay.lent import PoolServer
from pgherd.relay.messages import ListenerSettings
from pgherd.relay.pooled import PooledClient
from pgherd.relay.positioned import Positioned, RoutedHost
from pgherd.relay.positions import WRITTEN
from pgherd.relay.rider import Meaning, RiderLender
from pgherd.relay.riding import HandedOver
from pgherd.relay.session import LINGER_S, PENDING_BYTES_MAX
from pgherd.relay.tally import Routed
from pgherd.relay.transports import pause, resume
from pgherd.relay.trial import REFUSED, Outcome, Trial
from pgherd.route.choose import Bound, Route
from pgherd.route.classifier import Dialect, Seen
from pgherd.route.lexis import Hint
from pgherd.route.mark import ReadYourWrites
from pgherd.route.statement import Begins, Kind, Verdict
from pgherd.route.steering import UNKNOWN, Decision, Explained
from pgherd.route.wishes import MENTION
from pgherd.wire.answer import ADMIN_SHUTDOWN, Refusal, error_response
from pgherd.wire.cycles import Cycle, first_cycle
from pgherd.wire.lane import Lane
from pgherd.wire.query import TERMINATE
from pgherd.wire.startup import ProtocolViolation
from pgherd.wire.tracker import Tracker

TRIES_MAX = 2
"""Replicas that a statement may lose before it is for the primary."""

_READY = b"Z\0\0\0\x05I"
_IDLE = ord("I")
_UTF8 = frozenset({"UTF8", "UNICODE", "SQL_ASCII"})

_CHANGES = re.compile(
    rb"\b(?:create|alter|drop|grant|revoke|call|reassign|import)\b|\bdo\b(?!\s+(?:update|nothing))",
    re.IGNORECASE,
)
"""What may change the meaning of names, in bytes that pass without being parsed."""


class RoutedSession(Positioned):
    """See the module's theory of operation."""

    __slots__ = (
        "_changes",
        "_forced",
        "_has_written",
        "_losses",
        "_passing",
        "_seen",
        "_trial",
    )

    def __init__(self, host: RoutedHost, lender: RiderLender, listener: ListenerSettings) -> None:
        super().__init__(host, lender, listener)
        self.aim = Route.PRIMARY
        self._forced: Decision | None = None
        self._trial: Trial | None = None
        self._passing = False
        self._seen: tuple[Seen, ...] = ()
        self._losses = 0
        self._has_written = False
        self._changes = False

    # While it rides: reads that need to see nothing in particular (`carrying`)

    @property
    def may_ride(self) -> bool:
        steering = self.steering
        is_free = steering.wish is Route.AUTO and steering.needed is None and not steering.traces
        return is_free and self._forced is None and super().may_ride

    @property
    def rides_at(self) -> Route:
        return Route.REPLICA

    @property
    def meaning(self) -> Meaning:
        dialect = self._dialect
        known = self._home.learnt.stamp(self.database)
        return self.database, (*known, dialect.is_utf8, dialect.is_standard)

    def may_pass(self, text: bytes) -> bool:
        """Whether it is a read for certain, as far as that will be known."""
        learnt = self._home.learnt
        seen = learnt.classifier.look(text, self._dialect)
        return MENTION not in text.lower() and self._is_sure(seen)

    def names_elsewhere(self) -> list[tuple[bytes, bytes, int, int]]:
        known = self.steering.known
        return [
            one for one in super().names_elsewhere() if self._is_sure(known.get(one[0], UNKNOWN))
        ]

    def _is_sure(self, seen: Seen) -> bool:
        verdict = self._home.learnt.judge(seen, self.database)
        is_read = verdict.kind is Kind.READ and verdict.is_final
        return is_read and seen.hint is Hint.NONE and seen.shape.begins is Begins.NOTHING

    def was_at(self, bound: Bound) -> None:
        self.steering.last = Explained(str(Route.REPLICA), bound.backend.name, "a read")

    def came_back(self, handed: HandedOver, server: PoolServer | None) -> None:
        """What is not under way is decided anew; what is and has no answer yet is on trial."""
        if server is not None and not handed.is_running:
            server.passes_to(self, handed.server_out)
            self._lender.back(self, server, server.settings, clean=True)
            server = None
        elif server is not None and handed.is_tried:
            self._trial = Trial(handed.said)
            self._seen = self._decide(first_cycle(handed.said)).seen
        super().came_back(handed, server)

    @property
    def database(self) -> str:
        """As the servers call it."""
        assert self.family is not None
        known = dict(self.family.parameters)
        return known.get("database") or known.get("user", "")

    # What the client says

    def client_said(self, data: bytes) -> None:
        if not self.is_lending or self.tracker is None:
            super().client_said(data)
            return
        is_free = self._passing and not self.kept and not self.held and self._renewal is None
        if is_free and MENTION not in data and data != TERMINATE:
            self._has_written = True
            self._pass(data)
            return
        self._keep(data)
        self._advance()

    def _keep(self, data: bytes) -> None:
        self.kept += data
        if len(self.kept) > PENDING_BYTES_MAX:
            pause(self.client)

    def ask(self) -> None:
        self._advance()

    def _say_kept(self) -> None:
        """A server was lent, and has this client's settings."""
        if self._is_at_replica() and self._wants_position():
            return
        self._begin()

    def _advance(self) -> None:
        """Do what can be done now with what was kept."""
        if self.closing or self.is_waiting or self._renewal is not None:
            return
        try:
            if self.server is None:
                self._seek()
            else:
                self._go_on_there()
        except ProtocolViolation as why:
            self._violated(why)

    # Without a server

    def _seek(self) -> None:
        """Answer what is for the proxy; want a server for the rest."""
        cycle = first_cycle(self.kept)
        while self._forced is None and (answer := self.steering.answered(cycle, _IDLE)):
            self.say(answer)
            del self.kept[: cycle.length]
            cycle = first_cycle(self.kept)
        if self.kept[:1] in (b"", TERMINATE[:1]):
            super().ask()
            return
        if self._is_early(cycle):
            resume(self.client)
            return
        decision, self._forced = self._forced or self._decide(cycle), None
        self._decision, self.aim = decision, decision.route
        super().ask()

    def _is_early(self, cycle: Cycle) -> bool:
        """Whether the client has not said yet what it wants answered."""
        if cycle.is_whole or cycle.flushes or self.client_ended:
            return False
        return len(self.kept) <= PENDING_BYTES_MAX

    def _decide(self, cycle: Cycle) -> Decision:
        assert self.tracker is not None
        dialect = self._dialect
        learnt, database = self._home.learnt, self.database

        def look(text: bytes) -> Seen:
            return learnt.classifier.look(text, dialect)

        def judge(seen: Seen) -> Verdict:
            return learnt.judge(seen, database)

        decision = self.steering.decide(cycle, look, judge)
        return self._seen_to_be_read(decision)

    @property
    def _dialect(self) -> Dialect:
        """How its servers read what it says."""
        assert self.tracker is not None
        settings = self.tracker.settings
        return Dialect(
            is_utf8=settings.get("client_encoding", "") in _UTF8,
            is_standard=settings.get("standard_conforming_strings") == "on",
        )

    def _seen_to_be_read(self, decision: Decision) -> Decision:
        """A read that has to see what another term's primary acknowledged goes to the primary,
        which has it; from there it learns a position that replicas can be asked about."""
        mark, snapshot = self.steering.needed, self._home.snapshot
        if decision.route is not Route.REPLICA or mark is None or snapshot is None:
            return decision
        if mark.term == snapshot.term:
            return decision
        self._has_written = True
        why = f"read-your-writes: {mark} is of another term"
        return msgspec.structs.replace(decision, route=Route.PRIMARY, why=why, is_reading=False)

    # With a server

    def _is_at_replica(self) -> bool:
        return self.bound is not None and not self.bound.to_primary

    def _begin(self) -> None:
        """The server that was wanted is there: it gets what it is there for."""
        decision, bound = self._decision, self.bound
        if decision is None or bound is None:  # it has kept its server since before
            self._go_on_there()
            return
        self._decision = None
        self._note(decision, bound)
        self._changes = self._changes or decision.changes
        self._seen = decision.seen
        cycle = first_cycle(self.kept)
        if bound.to_primary:
            is_more = len(self.kept) > cycle.length
            self._has_written = self._has_written or is_more or decision.kind is not Kind.READ
            self._pass_all()
            return
        if cycle.is_whole and not decision.is_reading:
            self._trial = Trial(bytes(self.kept[: cycle.length]))
        self._pass_cycle(cycle)

    def _note(self, decision: Decision, bound: Bound) -> None:
        """Remember, count and, if the client wants it, log where a cycle went, and why."""
        why = decision.why
        if bound.to_primary and decision.route is Route.REPLICA:
            why += "; no replica can take it"
        route = Route.PRIMARY if bound.to_primary else Route.REPLICA
        self.steering.last = Explained(str(route), bound.backend.name, why)
        self._home.tally.route(bound, Routed(decision.kind.value))
        if self.steering.traces:
            say("statement.routed", route=route, backend=bound.backend.name, why=why)

    def _pass_cycle(self, cycle: Cycle) -> None:
        said = bytes(self.kept[: cycle.length])
        del self.kept[: cycle.length]
        resume(self.client)
        self._pass(said)

    def _go_on_there(self) -> None:
        """More was said while there is a server."""
        tracker = self.tracker
        assert tracker is not None
        if self.kept == TERMINATE and self.is_at_rest:
            self._part()
            self.close(linger_s=0, flush_s=LINGER_S)
            return
        if self.held and not tracker.goes_on:
            if tracker.is_idle and tracker.is_clean:
                self.give_back()
            return
        if not self.kept:
            return
        if not tracker.is_busy and self._answers_here(tracker):
            return
        if not self._is_at_replica():
            self._has_written = True
            self._pass_all()
            return
        cycle = first_cycle(self.kept)
        if tracker.is_answering:
            return
        if self.kept[:1] == TERMINATE[:1] or (not cycle.length and not self._is_early(cycle)):
            self._pass_all()
        elif cycle.length and (tracker.is_busy or not self._is_early(cycle)):
            self._pass_cycle(cycle)

    @property
    def is_at_rest(self) -> bool:
        """Whether its server has nothing to do."""
        return self.tracker is not None and self.tracker.is_idle

    def _pass_all(self) -> None:
        self._passing = not self._is_at_replica()
        said, self.kept = bytes(self.kept), bytearray()
        resume(self.client)
        self._pass(said)

    def _answers_here(self, tracker: Tracker) -> bool:
        """Answer what is for the proxy within a transaction; whether nothing else is kept."""
        while self.kept and MENTION in self.kept.lower():
            cycle = first_cycle(self.kept)
            answer = self.steering.answered(cycle, tracker.status)
            if answer is None:
                return False
            self.say(answer)
            del self.kept[: cycle.length]
        return not self.kept

    def _pass(self, data: bytes) -> None:
        if not self._changes and _CHANGES.search(data):
            self._changes = True
        tracker = self.tracker
        if tracker is not None and tracker.status != _IDLE:
            self._has_written = True
        super()._pass(data)

    # What its server says

    def server_said(self, data: bytes) -> None:
        trial = self._trial
        if self._renewal is not None or trial is None:
            self._heard(data)
            return
        match trial.feed(data):
            case Outcome.TAKEN:
                self._trial = None
                self._heard(bytes(trial.heard))
            case Outcome.AGAIN:
                self._refused(trial)
            case Outcome.OPEN:
                pass

    def _heard(self, data: bytes) -> None:
        tracker, bound = self.tracker, self.bound
        errors = tracker.errors if tracker is not None else 0
        super().server_said(data)
        if tracker is not None and bound is not None and tracker.errors != errors:
            self._home.tally.route(bound, Routed.FAILED, tracker.errors - errors)
        if self.server is not None and self.kept:
            self._advance()

    def _refused(self, trial: Trial) -> None:
        """The replica does not take what was meant to be a read: it is said once more."""
        tracker, bound = self.tracker, self.bound
        assert isinstance(tracker, Lane)
        assert bound is not None
        cycle = first_cycle(trial.said)
        self._trial = None
        tracker.hear(bytes(trial.heard))
        _give_names_back(tracker, cycle)
        is_refused = trial.sqlstate in REFUSED
        if is_refused:
            self._home.learnt.refused(self._seen, self.database)
            self._rides.changed(self.database)
        self._home.tally.route(bound, Routed.REPEATED)
        self.kept[:0] = trial.said
        why = f"{bound.backend.name} refused it ({trial.sqlstate})"
        self._to_primary(Kind.DOUBT if is_refused else Kind.READ, why)

    def _to_primary(self, kind: Kind, why: str) -> None:
        """What is kept is for the primary, whatever it is."""
        self._decision = None
        self._forced = Decision(Route.PRIMARY, kind, why)
        self.give_back()

    def give_back(self) -> None:
        self._passing, self._trial, self._losses, self.avoid = False, None, 0, ()
        super().give_back()

    def _look_done(self, tracker: Tracker) -> None:
        """Learn what a transaction has changed before its server is anybody else's."""
        if tracker.is_idle and not tracker.is_over and not self.closing:
            if self._changes:
                self._changes = False
                self._home.learnt.changed(self.database)
                self._rides.changed(self.database)
            has_written, self._has_written = self._has_written, False
            is_tracked = self.steering.mode is not ReadYourWrites.OFF
            if has_written and is_tracked and not self._is_at_replica():
                self._ask_position(WRITTEN, self._written_at)
                return
        super()._look_done(tracker)

    # Its server's end

    def server_lost(self) -> None:
        trial, tracker, bound = self._trial, self.tracker, self.bound
        is_early = self._renewal is not None and self._is_at_replica()
        if isinstance(tracker, Lane) and bound is not None and (trial is not None or is_early):
            self._lost_early(tracker, bound, trial)
            return
        self._trial = None
        super().server_lost()

    def _lost_early(self, tracker: Lane, bound: Bound, trial: Trial | None) -> None:
        """A replica is gone before the client heard of it: another one."""
        self._trial = self._renewal = None
        if trial is not None:
            gone = Refusal(ADMIN_SHUTDOWN, "gone")
            tracker.hear(error_response(gone, severity="ERROR") + _READY)
            _give_names_back(tracker, first_cycle(trial.said))
            self.kept[:0] = trial.said
        self._losses += 1
        self.avoid = (*self.avoid, bound.backend.name)
        self.lent = self.server = self.key = self.bound = None
        self._lender.lost(bound)
        self._home.tally.route(bound, Routed.REPEATED)
        if self._losses > TRIES_MAX:
            why = f"{bound.backend.name} was lost"
            self._forced = Decision(Route.PRIMARY, Kind.DOUBT, why)
        self._advance()


class RoutedClient(PooledClient):
    """The socket towards such a client."""

    def __init__(self, host: RoutedHost, lender: RiderLender, listener: ListenerSettings) -> None:
        super().__init__(host, listener, RoutedSession(host, lender, listener))


def _give_names_back(tracker: Lane, cycle: Cycle) -> None:
    """The names that a cycle gave will be given again."""
    tracker.take_back([said.name for said in cycle.said if said.kind == "P"])
