"""Sessions of `pool: transaction` whose transactions pass in a thread of C (`_shuttle`).

Theory of operation. A client that is at rest, and a server that nobody has, may *ride*: their
sockets are lent to the shuttle, which serves whole cycles of plain statements (`wire.plain`) as the
pool would. Their transports stay here and are not read meanwhile. Whatever else a client says or a
server does brings them back: the news tell all that `pooled` has to know to go on, in the middle of
an answer too. So there is one place for everything that is rare, and it is not there.

For its pool (`route.pooling`) a riding server is lent, to a `Fetch`: limits, pauses, ages and who
is first stay decided there. Servers come back when they had nothing to do for `TRIM_MS`, when
clients that do not ride wait for one, and now and then for the pool to look at their age.

Before anything changes for everybody (a hold, a pause, another primary, other limits) all come
back. Sessions that read from replicas come back when others may be read. Who is asked something
while it rides comes back first, or is looked at where it is (`Seat`).

Owns who rides. Leaves what passes to the shuttle, and what it hands over to `pooled`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from pgherd.relay._shuttle import Shuttle
from pgherd.relay.riding import (
    WAITING,
    Counts,
    HandedOver,
    Look,
    Numbers,
    Seat,
    added,
    with_totals,
)
from pgherd.relay.tally import HOLD_BUCKETS_S
from pgherd.relay.transports import pause, resume
from pgherd.route.choose import Bound, Route
from pgherd.telemetry.boottime import now_ms
from pgherd.wire.cycles import first_cycle
from pgherd.wire.plain import is_plain

if TYPE_CHECKING:
    from pgherd.relay.lending import Borrower, Lending
    from pgherd.relay.lent import Family, PoolServer
    from pgherd.relay.messages import ListenerSettings
    from pgherd.relay.pooled import Pooled
    from pgherd.relay.pools import Pools
    from pgherd.relay.rider import Meaning, Rider
    from pgherd.wire.answer import Refusal

TRIM_MS = 1_000
LOOK_MS = 30_000
"""How long a server rides at most before its pool may look at it."""

STAYS_MAX = 64
"""Transactions that a client stays here for if the shuttle could not do with what it said."""

RIDES_WELL = 16
"""Cycles of one ride that are worth the way."""

KINDS_MAX = 4096
"""So many kinds of settings, and of meanings, are told apart."""

_CLASSES_MS = tuple(int(limit_s * 1000) for limit_s in HOLD_BUCKETS_S)
_PLAIN_ENCODINGS = frozenset({"UTF8", "SQL_ASCII", "LATIN1"})
"""Of which every byte below 128 is the character that it is in ASCII."""

CLIENT, SERVER, WANT, ASK = range(4)
"""What the news are about; see _shuttle.h."""

CHOICES_MAX = 8
"""Replicas that one client's transactions are spread over."""

STRANGE, FOR_NEWS = 1, 3
"""Why somebody comes back; see _shuttle.h."""


class Fetch:
    """Borrows a server for the shuttle."""

    client: asyncio.Transport | None = None
    avoid = ()
    rides_to = None

    def __init__(self, carrying: Carrying, lending: Lending, listener: ListenerSettings) -> None:
        self._carrying = carrying
        self.lending = lending
        self.number = carrying.pools.number()
        self.listener = listener
        self.family: Family | None = lending.family
        self.aim = Route.PRIMARY if lending.bound.to_primary else Route.REPLICA
        self.server: PoolServer | None = None
        self.since = now_ms()

    def has(self, server: PoolServer, bound: Bound) -> None:
        """A server was lent."""
        self.server = server
        self._carrying.fetched(self, server)

    def refuse(self, refusal: Refusal) -> None:
        """There will be none: those who wait for it are told so here."""
        self._carrying.not_fetched(self)

    def server_said(self, data: bytes) -> None:
        """Nobody reads a riding server here."""

    def server_lost(self) -> None:
        """Its pool knows."""


class Carrying:
    """One proxy's. over: what was done for pools that are no more."""

    def __init__(self, pools: Pools, over: Counts) -> None:
        self.pools = pools
        self.shuttle = Shuttle(_CLASSES_MS)
        self._riders: dict[int, Rider] = {}
        self._choices: dict[int, tuple[list[Lending], Meaning]] = {}
        self._domains: Numbers[Meaning] = Numbers(KINDS_MAX)
        self._tried: dict[int, int] = {}
        self._fetches: dict[int, Fetch] = {}
        self._by_pool: dict[int, Lending] = {}
        self._settings: Numbers[tuple[tuple[str, str], ...]] = Numbers(KINDS_MAX)
        self._last_settings: tuple[dict[str, str], int] = ({}, 0)
        self._news: deque[tuple[Any, ...]] = deque()
        self.over = over
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.shuttle.fileno(), self.hear)

    def close(self) -> None:
        """Have all back, and end the thread."""
        for lending in list(self._by_pool.values()):
            self.gone(lending)
        self._loop.remove_reader(self.shuttle.fileno())
        self.shuttle.close()

    # Who may ride

    def rests(self, session: Rider) -> None:
        """A client has no server, and has said nothing that needs one."""
        if session.stays > 0:
            session.stays -= 1
        elif session.rides_to is not None:
            self._loop.call_soon(self._take, session)

    def _take(self, session: Rider) -> None:
        """Let a client ride, unless something has come up since."""
        client = session.client
        if client is None or session.is_riding or not session.may_ride or client.is_closing():
            return
        tracker = session.lane
        if client.get_write_buffer_size() or tracker is None:
            return
        if tracker.settings.get("client_encoding") not in _PLAIN_ENCODINGS:
            return
        lendings, meaning = self._lendings_for(session), session.meaning
        if not lendings or not all(map(self._may_ride, lendings)):
            return
        choices = tuple(self._pool_of(one) for one in lendings)
        numbers = session.number, _fd(client), choices, self._number_of(tracker.settings)
        pause(client)
        if self.shuttle.put_client(*numbers, self._domain_of(meaning), session.names_elsewhere()):
            self._riders[session.number] = session
            self._choices[session.number] = lendings, meaning
            session.rides(Seat(client, session))
        else:
            resume(client)

    def _lendings_for(self, session: Rider) -> list[Lending]:
        found = self.pools.lendings_for(session)[:CHOICES_MAX]
        if session.meaning is not None and any(one.bound.to_primary for one in found):
            return []  # it only rides to replicas
        return found

    def _domain_of(self, meaning: Meaning) -> int:
        """Where what is learned of a client's statements is remembered."""
        return 0 if meaning is None else self._domains.of(meaning)

    def _may_ride(self, lending: Lending) -> bool:
        pool = lending.pool
        if pool.is_held or pool.is_paused or pool.is_ended or pool.limits.queue:
            return False
        if lending.encrypts:
            return False
        return not any(lending.share.wanted.values())

    def _pool_of(self, lending: Lending) -> int:
        if not lending.riding:
            lending.riding = self.shuttle.pool()
            self._by_pool[lending.riding] = lending
        return lending.riding

    def _number_of(self, settings: dict[str, str]) -> int:
        """The same for settings that are alike."""
        if settings is not self._last_settings[0]:
            self._last_settings = settings, self._settings.of(tuple(sorted(settings.items())))
        return self._last_settings[1]

    # Servers

    def fetch(self, lending: Lending, count: int, listener: ListenerSettings) -> None:
        """Borrow servers for the shuttle."""
        for _ in range(count):
            fetch = Fetch(self, lending, listener)
            lending.fetching[fetch.number] = fetch
            self.pools.want_at(fetch, lending)

    def fetched(self, fetch: Fetch, server: PoolServer) -> None:
        """A server was lent to the shuttle."""
        lending = server.owner
        fetch.lending.fetching.pop(fetch.number, None)
        by_pool = lending is fetch.lending and self._may_ride(fetch.lending)
        if not (by_pool and server.can_ride and self._give(fetch, server)):
            self.pools.back(fetch, server, server.settings, clean=True)

    def _give(self, fetch: Fetch, server: PoolServer) -> bool:
        lending, transport = fetch.lending, server.transport
        assert transport is not None
        pool, settings = self._pool_of(lending), self._number_of(server.settings)
        lending.fetched += 1
        fetch.since = now_ms()
        self._fetches[server.number] = fetch
        pause(transport)
        shelf = server.shelf.elsewhere()
        if self.shuttle.put_server(server.number, _fd(transport), pool, settings, shelf):
            return True
        del self._fetches[server.number]
        resume(transport)
        return False

    def not_fetched(self, fetch: Fetch) -> None:
        """Nobody will be lent to the shuttle: who waits there waits here, and is told why not."""
        fetch.lending.fetching.pop(fetch.number, None)
        if fetch.lending.riding:
            self.recall(fetch.lending)

    def back(self, lending: Lending, borrower: Borrower) -> None:
        """A client has given a server back: who rides may have it."""
        if borrower.rides_to is None or lending.pool.idle_since is None:
            return
        is_theirs = lending.bound.to_primary is (borrower.rides_to is Route.PRIMARY)
        if is_theirs and self._may_ride(lending):
            self.fetch(lending, 1, borrower.listener)

    def waits(self, lending: Lending) -> None:
        """Somebody who does not ride waits for a server of this pool."""
        others = lending.pool.waits - len(lending.fetching)
        if lending.riding and others > 0:
            self.shuttle.share(lending.riding, others)

    # Having them back

    def come_back(self, session: Rider) -> None:
        """Have one client here again."""
        self.shuttle.recall(session.number)
        self.hear()

    def recall(self, lending: Lending) -> None:
        """Have all here again that ride for one pool."""
        if lending.riding:
            self.shuttle.recall_pool(lending.riding)
            self.hear()

    def recall_all(self) -> None:
        """Have all here again."""
        for number in list(self._by_pool):
            self.shuttle.recall_pool(number)
        self.hear()

    def recall_readers(self, database: str) -> None:
        """Have those here again who know what statements mean in a database, as servers call it."""
        for number, (_, meaning) in list(self._choices.items()):
            if meaning is not None and meaning[0] == database:
                self.shuttle.recall(number)
        self.hear()

    def gone(self, lending: Lending) -> None:
        """A pool is no more."""
        number, lending.riding = lending.riding, 0
        if number:
            self.shuttle.recall_pool(number)
            self.hear()
            self.count()
            counts = Counts(*self.shuttle.counts(number))
            self.over, lending.rode = added(self.over, counts), added(lending.rode, counts)
            del self._by_pool[number]
            self._tried.pop(number, None)
            self.shuttle.drop_pool(number)

    def tick(self, now: int) -> None:
        """What is due by now: to be called once a second at least."""
        for session in list(self._riders.values()):
            if session.rides_at is Route.PRIMARY:
                continue
            if (self._lendings_for(session), session.meaning) != self._choices[session.number]:
                self.shuttle.recall(session.number)
        self.count()
        for number, lending in list(self._by_pool.items()):
            if not self.pools.rides.holds(lending.bound):
                self.shuttle.recall_pool(number)
            self.shuttle.trim(number, TRIM_MS)
        for number, fetch in self._fetches.items():
            if now - fetch.since >= LOOK_MS:
                self.shuttle.recall_server(number)
        self.hear()

    # News

    def hear(self) -> None:
        """Do what the shuttle asks for, and take back what it hands over."""
        self._news += self.shuttle.news()
        while self._news:  # who comes back may have others come back
            kind, *what = self._news.popleft()
            if kind == CLIENT:
                self._client_back(HandedOver(*what))
            elif kind == SERVER:
                self._server_back(*what)
            elif kind == WANT:
                self._wants(*what)
            else:
                self._asks(*what)

    def _client_back(self, handed: HandedOver) -> None:
        session = self._riders.pop(handed.client)
        del self._choices[handed.client]
        server = None
        if handed.server:
            fetch = self._fetches.pop(handed.server)
            server = fetch.server
            assert server is not None
            fetch.lending.pool.passes(server.number, session.number)
        _hesitate(session, handed)
        lending = self._by_pool.get(handed.pool)
        if lending is not None and handed.simple + handed.extended:
            session.was_at(lending.bound)
        session.came_back(handed, server)

    def _server_back(
        self, number: int, pool: int, why: int, left: int, rest: bytes, out: bytes
    ) -> None:
        fetch = self._fetches.pop(number)
        server = fetch.server
        assert server is not None
        transport = server.transport
        resume(transport)
        if left or out:
            assert transport is not None
            transport.abort()  # it is in the middle of something that nobody asked for
        elif why == FOR_NEWS:
            server.rode(rest)
            self._loop.call_later(0.02, self._returned, fetch, server)
            return
        self._returned(fetch, server)

    def _returned(self, fetch: Fetch, server: PoolServer) -> None:
        if server.transport is not None:
            self.pools.back(fetch, server, server.settings, clean=True)
        else:
            self.pools.lost(fetch.lending.bound)

    def _wants(self, number: int) -> None:
        """Clients wait for servers there."""
        lending = self._by_pool.get(number)
        if lending is None or not self._may_ride(lending):
            return
        counts = Counts(*self.shuttle.counts(number))
        limits = lending.pool.limits
        room = limits.size + limits.reserve - counts.servers - len(lending.fetching)
        first = next(iter(self._riders.values()), None)
        if first is not None:
            self.fetch(lending, min(room, max(1, counts.waiting)), first.listener)

    def _asks(self, number: int, said: bytes) -> None:
        """Somebody says what was not heard before."""
        session = self._riders.get(number)
        if session is None:
            return  # it is on its way back
        domain = self._domain_of(self._choices[number][1])
        for one in first_cycle(said).said:
            if one.kind in "QP":
                may_pass = is_plain(one.text) and session.may_pass(one.text)
                self.shuttle.learn(domain, one.text, may_pass)
        self.shuttle.answered(number, True)

    # What is seen

    def look(self, session: Rider) -> Look:
        """A client that rides."""
        seen = self.shuttle.look(session.number)
        if seen is None:  # it is on its way back
            return Look(WAITING, 0, True, 0, 0, 0, 0, 0, 0)
        return Look(*seen)

    def riding_servers(self) -> dict[int, int]:
        """Every server that rides, and who has it; 0 = nobody."""
        found = dict.fromkeys(self._fetches, 0)
        for session in self._riders.values():
            found[self.look(session).server] = session.number
        found.pop(0, None)
        return found

    def bound_of(self, session: Pooled) -> Bound | None:
        """Where a riding client's server is."""
        seen = self.shuttle.look(session.number)
        fetch = self._fetches.get(seen[1]) if seen is not None else None
        return fetch.lending.bound if fetch is not None else None

    def counts(self, lending: Lending) -> Counts:
        """What rides of a pool, and what was done for it so far."""
        if not lending.riding:
            return lending.rode
        return with_totals(Counts(*self.shuttle.counts(lending.riding)), lending.rode)

    def count(self) -> None:
        """Have what was read since the last time counted where reads are."""
        for number, lending in self._by_pool.items():
            tried = Counts(*self.shuttle.counts(number)).tried
            more = tried - self._tried.get(number, 0)
            if more:
                self._tried[number] = tried
                self.pools.rides.read(lending.bound, more)

    def total(self) -> Counts:
        """What was done for all pools that there ever were."""
        found = self.over
        for number in self._by_pool:
            found = added(found, Counts(*self.shuttle.counts(number)))
        return found


def _hesitate(session: Rider, handed: HandedOver) -> None:
    """Who came back for what the shuttle does not know rides again only after a while."""
    if handed.simple + handed.extended >= RIDES_WELL:
        session.hesitates = 0
    elif handed.why == STRANGE:
        session.hesitates = min(STAYS_MAX, 2 * session.hesitates + 1)
    session.stays = session.hesitates if handed.why == STRANGE else 0


def _fd(transport: asyncio.Transport) -> int:
    number: int = transport.get_extra_info("socket").fileno()
    return number
