"""Servers for sessions of `pool: transaction`: whose pool, which server, since when one waits.

Theory of operation. A session that needs a server asks `choose` where it may go now; there is a
pool of servers for each place and each family of sessions: those of one user and one database that
began with the same startup parameters, as far as a server cannot be made to forget them. The pool
(`route.pooling`) says which server is lent, opened or closed; here it is done. A pool whose server
leads no more is ended, and who waited in it waits elsewhere, from the moment when its wait began.

A client that waits while no server can be had at all, because there is none or none takes sessions,
is told so after `connect_timeout_ms`, a hold not counted. How long it waits for one of those that
others have is the pool's. Servers are opened with the keys of whoever proved itself last as that
user, kept in memory alone; they are forgotten when the role's verifier is another one.

Owns pools, who waits, and the servers' keys. Leaves a client's turns to `pooled`, and the exchange
with a server that is opened to `opening`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, assert_never

import msgspec

from pgherd.model.ids import Instant, NodeId
from pgherd.relay.dial import HINT_REFUSED
from pgherd.relay.entrance import Gate
from pgherd.relay.greetings import Greetings
from pgherd.relay.lending import Borrower, Lending
from pgherd.relay.lent import Family, PoolServer
from pgherd.relay.opening import NotOpened, Opener, opened
from pgherd.relay.pausing import Pausing
from pgherd.relay.pooltally import PoolTally
from pgherd.relay.poolview import reported
from pgherd.relay.rides import Rides
from pgherd.relay.shares import Shares
from pgherd.route.choose import Bound, NoBackend, Route, Snapshot, eligible, superseded
from pgherd.route.poolreport import PoolCounters
from pgherd.route.poolsteps import Close, Lend, Open, Refuse, Step
from pgherd.telemetry.boottime import now_ms
from pgherd.wire.answer import Refusal
from pgherd.wire.login import Authenticated
from pgherd.wire.scram import Keys
from pgherd.wire.shelf import Moments
from pgherd.wire.startup import StartupMessage

if TYPE_CHECKING:
    from pgherd.relay.rider import Rider

TICK_S, TICK_IDLE_S = 0.1, 1.0
"""How often time is looked at while somebody waits, and otherwise."""

SHUN_MS = 500
"""How long a server that took no session is passed over."""

_BAD_PASSWORD = "28P01"


class _Waiting(msgspec.Struct):
    borrower: Borrower
    since: Instant
    counted_from: Instant
    at: Lending | None = None
    why: str = ""


class Pools:
    """One proxy's."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.greetings = Greetings()
        self.moments = Moments()
        self._lendings: dict[tuple[object, ...], Lending] = {}
        self._ended: set[Lending] = set()
        self._waiting: dict[int, _Waiting] = {}
        self._keys: dict[str, tuple[Keys, str]] = {}
        self._shunned: dict[NodeId, tuple[Instant, str]] = {}
        self._leads: tuple[int, NodeId | None] = (0, None)
        self._numbers = 0
        self._shares = Shares(lambda: gate.settings.pools, self.run)
        self.tally = PoolTally()
        self.pausing = Pausing(self.lendings, self.run, lambda: self.rides.all_back())
        self._ticking: asyncio.TimerHandle | None = None
        self.rides = Rides(self, gate)

    def lendings_for(self, session: Rider) -> list[Lending]:
        """Where a session may have its servers from now."""
        family, listener = session.family, session.listener
        assert family is not None
        shunned, found = self._shunned_now(now_ms()), []
        if session.rides_at is Route.REPLICA:
            snapshot, preference = self._gate.snapshot, listener.preference
            found = eligible(snapshot, preference=preference, exclude=shunned)
        if not found:
            choice = self._gate.choose(listener, shunned, session.rides_at)
            found = [] if isinstance(choice, NoBackend) else [choice]
        return [self._lending(family, one) for one in found]

    def bound_of(self, server: PoolServer) -> Bound:
        """Where a server is."""
        lending = server.owner
        assert isinstance(lending, Lending)
        return lending.bound

    # Who may have servers

    def number(self) -> int:
        """One that nobody had before."""
        self._numbers += 1
        return self._numbers

    def verified(self, user: str, stored: str) -> None:
        """What the role's password is checked with now; keys of another one open nothing more."""
        known = self._keys.get(user)
        if known is not None and known[1] != stored:
            del self._keys[user]

    def proved(self, user: str, keys: Keys, stored: str) -> None:
        """A client has shown that it knows the password that is checked with this."""
        self._keys[user] = keys, stored

    # What operators want

    def lendings(self) -> list[Lending]:
        """All pools, those that are over included."""
        return [*self._lendings.values(), *self._ended]

    def waits(self) -> Iterator[tuple[Family, Borrower, Instant]]:
        """Who waits for a server, and since when."""
        for one in self._waiting.values():
            assert one.borrower.family is not None
            if one.at is not None and one.borrower.number in one.at.fetching:
                continue  # it wants one for others
            yield one.borrower.family, one.borrower, one.since

    def reported(self) -> PoolCounters:
        """For the agent."""
        self.rides.counted()
        return reported(self)

    def configured(self) -> None:
        """The settings have changed."""
        self.rides.all_back()
        self.rides.configure()
        self._shares.limit(self.lendings(), now_ms())

    # What sessions want

    def want(self, borrower: Borrower, *, waited_ms: int = 0) -> None:
        """Lend it a server as soon as there is one. waited_ms: for so long it waits already."""
        now = now_ms()
        since = Instant(now - waited_ms)
        waiting = self._waiting[borrower.number] = _Waiting(borrower, since, now)
        self._gate.tally.held += 1
        self._route(waiting, now)
        if borrower.number in self._waiting or self._ticking is None:
            self._tick_in(TICK_S)

    def want_at(self, borrower: Borrower, lending: Lending) -> None:
        """Lend it a server of this pool, for others."""
        now = now_ms()
        self._waiting[borrower.number] = _Waiting(borrower, now, now, lending)
        self.run(lending, lending.pool.want(borrower.number, now))
        self._tick_in(TICK_S)

    def leave(self, borrower: Borrower) -> None:
        """It wants none any more."""
        waiting = self._over(borrower.number)
        if waiting is not None and waiting.at is not None:
            self.run(waiting.at, waiting.at.pool.leave(borrower.number, now_ms()))

    def back(
        self, borrower: Borrower, server: PoolServer, settings: dict[str, str], *, clean: bool
    ) -> None:
        """A server's client has done with it. settings: as it was left."""
        lending = server.owner
        self._part(borrower, server, soon=clean and not server.cancels)
        server.is_back(settings, clean=clean)
        if isinstance(lending, Lending):
            self.rides.back(lending, borrower)

    def left(self, borrower: Borrower, server: PoolServer) -> None:
        """A server's client went away in the middle."""
        self._part(borrower, server, soon=False)
        server.is_left()

    def lost(self, bound: Bound) -> None:
        """A server is gone while somebody had it who wants another one."""
        self._gate.count(bound.backend, -1)

    def _part(self, borrower: Borrower, server: PoolServer, *, soon: bool) -> None:
        """soon: the server is the pool's again at once; else it is nobody's for a while."""
        lending = server.owner
        assert isinstance(lending, Lending)
        self._gate.count(lending.bound.backend, -1)
        if not soon:
            self.run(lending, lending.pool.leave(borrower.number, now_ms()))

    def _over(self, number: int) -> _Waiting | None:
        waiting = self._waiting.pop(number, None)
        if waiting is not None and not (waiting.at is not None and number in waiting.at.fetching):
            self._gate.tally.held -= 1
            if (waited_ms := now_ms() - waiting.since) > 0:
                self._gate.tally.waited(waited_ms / 1000)
        return waiting

    # Where they go

    def _route(self, waiting: _Waiting, now: Instant) -> None:
        """Find the pool for one that waits, or let it wait for news."""
        borrower = waiting.borrower
        assert borrower.family is not None
        shunned = [*self._shunned_now(now), *borrower.avoid]
        choice = self._gate.choose(borrower.listener, shunned, borrower.aim)
        if isinstance(choice, NoBackend):
            waiting.at, waiting.why = None, choice.message
            if choice.final:
                self._refuse(borrower.number, Refusal(choice.sqlstate, f"pgherd: {choice.message}"))
            return
        lending = waiting.at = self._lending(borrower.family, choice)
        since = waiting.since if waiting.since != now else None
        self.run(lending, lending.pool.want(borrower.number, now, since=since))
        self._shares.make_room(lending, self._lendings.values(), now)
        if waiting.borrower.number in self._waiting:
            self.rides.waits(lending)

    def _shunned_now(self, now: Instant) -> list[NodeId]:
        if not self._shunned:
            return []
        self._shunned = {name: one for name, one in self._shunned.items() if one[0] > now}
        return list(self._shunned)

    def _lending(self, family: Family, bound: Bound) -> Lending:
        backend = bound.backend
        reign = bound.term if bound.to_primary else None
        key = family, reign, backend.name, backend.host, backend.port
        lending = self._lendings.get(key)
        if lending is None:
            pool, share = self._shares.pool_of(family, now_ms())
            lending = self._lendings[key] = Lending(self, family, bound, pool, share)
            if self.pausing.is_paused(family.database):
                self.run(lending, pool.pause(now_ms()))
        lending.bound = bound
        return lending

    # What is done for them

    def run(self, lending: Lending, steps: Iterable[Step]) -> None:
        """Carry steps out."""
        for step in steps:
            match step:
                case Lend():
                    self._lend(lending, step)
                case Open():
                    self._open(lending, step.ticket)
                case Close():
                    lending.servers.pop(step.server).end()
                case Refuse():
                    self._refuse(step.client, step.refusal)
                case _:
                    assert_never(step)

    def _lend(self, lending: Lending, step: Lend) -> None:
        waiting = self._over(step.client)
        assert waiting is not None
        server = lending.servers[step.server]
        server.is_lent(waiting.borrower)
        if step.client not in lending.fetching:
            self.tally.lent_after(now_ms() - waiting.since)
        self._gate.count(lending.bound.backend, 1)
        waiting.borrower.has(server, lending.bound)

    def _refuse(self, number: int, refusal: Refusal) -> None:
        waiting = self._over(number)
        if waiting is not None:
            waiting.borrower.refuse(refusal)

    def _open(self, lending: Lending, ticket: int) -> None:
        task = asyncio.get_running_loop().create_task(self._opening(lending, ticket))
        lending.openings.add(task)
        task.add_done_callback(lending.openings.discard)

    async def _opening(self, lending: Lending, ticket: int) -> None:
        family = lending.family
        known = self._keys.get(family.user)
        outcome: PoolServer | NotOpened
        if known is None:
            text = f'pgherd: the password of "{family.user}" has changed: log in again'
            outcome = NotOpened("its keys are not known", Refusal(_BAD_PASSWORD, text))
        else:
            outcome = await opened(
                self._gate, Opener(self._gate, by_socket=family.by_socket), lending.bound,
                Authenticated(known[0], StartupMessage(0, 0, family.parameters), b""),
            )  # fmt: skip
        if isinstance(outcome, PoolServer):
            number = self.number()
            outcome.adopted(lending, number=number)
            lending.encrypts = outcome.is_encrypted
            lending.servers[number] = outcome
            self.greetings.opened(lending.kind, outcome.settings)
            self.run(lending, lending.pool.opened(ticket, number, now_ms()))
        else:
            self._not_opened(lending, ticket, outcome)

    def _not_opened(self, lending: Lending, ticket: int, outcome: NotOpened) -> None:
        refusal, now = outcome.refusal, now_ms()
        if refusal is not None and refusal.sqlstate == _BAD_PASSWORD:
            self._keys.pop(lending.family.user, None)
        self.run(lending, lending.pool.not_opened(ticket, now, refusal=refusal))
        if refusal is None and not lending.servers and lending not in self._ended:
            name = lending.bound.backend.name
            self._shunned[name] = Instant(now + SHUN_MS), outcome.why
            self._elsewhere(lending, now)

    # What time and news do

    def expect(self, before: Snapshot | None, snapshot: Snapshot) -> None:
        """A snapshot is about to be taken: who rides comes back if that concerns all."""
        if before is None or _concern(before) != _concern(snapshot):
            self.rides.all_back()

    def follow(self, snapshot: Snapshot) -> None:
        """Take a snapshot: end the pools of reigns that are over, and look again for all others."""
        now = now_ms()
        leads = snapshot.term, snapshot.primary.name if snapshot.primary is not None else None
        if leads != self._leads:
            self._leads = leads
            self._shunned.clear()
        for key, lending in list(self._lendings.items()):
            if _is_over(lending.bound, snapshot):
                del self._lendings[key]
                self._ended.add(lending)
                self.rides.over(lending)
                self.run(lending, lending.pool.end(now))
                self._elsewhere(lending, now)
        self._hold(now)
        self._look_again(now)

    def _elsewhere(self, lending: Lending, now: Instant) -> None:
        """Let those that wait in a pool wait for another one."""
        for number, _ in list(lending.pool.waiting):
            waiting = self._waiting.get(number)
            self.run(lending, lending.pool.leave(number, now))
            if waiting is not None:
                self._route(waiting, now)

    def _hold(self, now: Instant) -> None:
        """While clients of the primary are held nobody gets a server of it."""
        snapshot = self._gate.snapshot
        is_held = snapshot is not None and snapshot.holds(now)
        for lending in list(self._lendings.values()):
            if lending.bound.to_primary and lending.pool.is_held != is_held:
                pool = lending.pool
                self.run(lending, pool.hold(now) if is_held else pool.unhold(now))

    def _look_again(self, now: Instant) -> None:
        for waiting in list(self._waiting.values()):
            if waiting.at is None:
                self._route(waiting, now)

    def _tick(self) -> None:
        now = now_ms()
        self._hold(now)
        for lending in self.lendings():
            self.run(lending, lending.pool.tick(now))
            self._shares.make_room(lending, self._lendings.values(), now)
        self._look_again(now)
        self._end_waits(now)
        self.rides.tick(now)
        self._forget(now)
        self._ticking = None
        if self._waiting:
            self._tick_in(TICK_S)
        elif self._lendings or self._ended:
            self._tick_in(TICK_IDLE_S)

    def _tick_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._ticking is not None:
            if self._ticking.when() <= loop.time() + seconds:
                return
            self._ticking.cancel()
        self._ticking = loop.call_later(seconds, self._tick)

    def _forget(self, now: Instant) -> None:
        """Let pools go that nobody would miss."""
        for key, lending in list(self._lendings.items()):
            if lending.pool.is_unused and not self.rides.of(lending).clients:
                del self._lendings[key]
                self.rides.over(lending)
                self.tally.pool_over(lending, now)
        for lending in [one for one in self._ended if one.pool.is_quiet]:
            self._ended.discard(lending)
            self.tally.pool_over(lending, now)

    def _end_waits(self, now: Instant) -> None:
        """Tell those that wait in vain: there is no server that could be lent to them."""
        snapshot = self._gate.snapshot
        is_held = snapshot is not None and snapshot.holds(now)
        limit = self._gate.settings.connect_timeout_ms
        for number, waiting in list(self._waiting.items()):
            borrower, at = waiting.borrower, waiting.at
            if self._is_patient(borrower, is_held=is_held) and not self._is_late(waiting, now):
                waiting.counted_from = now
            if now - waiting.counted_from < limit or (at is not None and at.servers):
                continue
            if at is not None:
                self.run(at, at.pool.leave(number, now))
            why = waiting.why or "no server could be reached in time"
            shunned = [text for _, text in self._shunned.values()]
            text = f"pgherd: {'; '.join(shunned) or why}; nothing was sent to a server since"
            self._refuse(number, Refusal("57P03", text, HINT_REFUSED))

    def _is_patient(self, borrower: Borrower, *, is_held: bool) -> bool:
        """Whether that there is no server is as it should be for now."""
        if is_held and borrower.aim is not Route.REPLICA:
            return True
        return borrower.family is not None and self.pausing.is_paused(borrower.family.database)

    def _is_late(self, waiting: _Waiting, now: Instant) -> bool:
        """Whether it has waited for longer than for any server."""
        family = waiting.borrower.family
        assert family is not None
        limit = self._gate.settings.pools.limits_of(family.user, family.database).wait_ms
        return bool(limit) and waiting.at is None and now - waiting.since >= limit


def _concern(snapshot: Snapshot) -> tuple[object, ...]:
    """What of a snapshot sessions must not pass by."""
    primary = snapshot.primary.name if snapshot.primary is not None else None
    replicas = frozenset(one.name for one in snapshot.replicas if not one.tended)
    return snapshot.term, primary, snapshot.hold, replicas


def _is_over(bound: Bound, snapshot: Snapshot) -> bool:
    """Whether a pool's servers must go: by the rule for sessions; a replica's in maintenance too,
    and when it became the primary."""
    if bound.to_primary:
        return superseded(bound, snapshot)
    name = bound.backend.name
    is_primary = snapshot.primary is not None and snapshot.primary.name == name
    return is_primary or any(one.name == name and one.tended for one in snapshot.replicas)
