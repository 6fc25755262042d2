"""Proves what a pool lends, opens, closes and refuses: case by case, and in random walks."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

import pytest

from pgherd.model.ids import Instant
from pgherd.route.pooling import RETRY_MS, Pool
from pgherd.route.poolsteps import Close, Lend, Open, PoolLimits, Refuse, Step
from pgherd.wire.answer import Refusal

TWO = PoolLimits(size=2)
NO_LOGIN = Refusal("28000", "no such role")


class Places:
    """A room with so many places."""

    def __init__(self, free: int) -> None:
        self.free = free

    def take(self) -> bool:
        if not self.free:
            return False
        self.free -= 1
        return True

    def give(self) -> None:
        self.free += 1


def at(ms: int) -> Instant:
    return Instant(ms)


def told(steps: Sequence[Step]) -> str:
    """Steps in one line: `open 1, lend 7>a, close 7 idle, refuse 2 53300`."""
    words = []
    for step in steps:
        match step:
            case Open(ticket=ticket):
                words.append(f"open {ticket}")
            case Lend(server=server, client=client):
                words.append(f"lend {server}>{client}")
            case Close(server=server, why=why):
                words.append(f"close {server} {why}")
            case Refuse(client=client, refusal=refusal):
                words.append(f"refuse {client} {refusal.sqlstate}")
    return ", ".join(words)


def pool_of(limits: PoolLimits = TWO, *servers: int) -> Pool:
    """A pool with these servers, idle in this order since 0."""
    pool = Pool(limits, now=at(0))
    for client in range(-len(servers), 0):
        pool.want(client, at(0))
    for ticket, server in enumerate(servers, 1):
        assert told(pool.opened(ticket, server, at(0))).startswith(f"lend {server}>")
    for server in servers:
        pool.gave_back(server, at(0), fit=True)
    return pool


# Lending


def test_a_server_is_opened_for_who_comes_and_lent_to_who_waited_longest() -> None:
    pool = Pool(TWO, now=at(0))
    assert told(pool.want(1, at(0))) == "open 1"
    assert told(pool.want(2, at(1))) == "open 2"
    assert told(pool.want(3, at(2))) == ""
    assert told(pool.opened(2, 70, at(5))) == "lend 70>1"
    assert told(pool.gave_back(70, at(9), fit=True)) == "lend 70>2"
    assert told(pool.opened(1, 71, at(12))) == "lend 71>3"
    seen = pool.seen(at(12))
    assert (seen.lent, seen.waited, seen.waited_ms) == (3, 3, 5 + 8 + 10)


def test_the_server_that_worked_last_is_lent_first() -> None:
    pool = pool_of(TWO, 7, 8)
    assert told(pool.want(1, at(1))) == "lend 8>1"
    assert told(pool.want(2, at(1))) == "lend 7>2"
    pool.gave_back(8, at(2), fit=True)
    pool.gave_back(7, at(3), fit=True)
    assert told(pool.want(3, at(4))) == "lend 7>3"


def test_a_client_that_gave_up_waiting_is_passed_over() -> None:
    pool = pool_of(PoolLimits(size=1), 7)
    pool.want(1, at(0))
    pool.want(2, at(1))
    pool.want(3, at(2))
    pool.leave(2, at(3))
    assert told(pool.gave_back(7, at(4), fit=True)) == "lend 7>3"


def test_a_server_whose_client_left_is_not_lent_before_it_is_given_back() -> None:
    pool = pool_of(PoolLimits(size=1), 7)
    pool.want(1, at(0))
    pool.leave(1, at(1))
    assert told(pool.want(2, at(1))) == ""
    assert pool.seen(at(1)).servers_resetting == 1
    assert told(pool.gave_back(7, at(2), fit=True)) == "lend 7>2"
    pool.leave(2, at(3))
    pool.want(2, at(3))  # the same client again, while its last server is reset
    assert told(pool.gave_back(7, at(4), fit=True)) == "lend 7>2"


def test_an_unfit_server_is_closed_and_replaced_if_somebody_waits() -> None:
    pool = pool_of(PoolLimits(size=1), 7)
    pool.want(1, at(0))
    pool.want(2, at(0))
    assert told(pool.gave_back(7, at(1), fit=False)) == "close 7 unfit, open 2"
    assert told(pool.opened(2, 8, at(2))) == "lend 8>2"
    assert told(pool.gave_back(8, at(3), fit=False)) == "close 8 unfit"


def test_a_lost_server_is_replaced_whoever_had_it() -> None:
    pool = pool_of(TWO, 7, 8)
    assert told(pool.lost(7, at(1))) == ""
    pool.want(1, at(1))
    assert told(pool.want(2, at(1))) == "open 3"
    assert told(pool.lost(8, at(2))) == ""  # one is on its way already
    assert pool.server_of(1) is None
    assert told(pool.want(1, at(2))) == "open 4"
    assert told(pool.lost(99, at(3))) == ""


# Limits


def test_one_more_than_may_wait_is_refused_and_why() -> None:
    pool = pool_of(PoolLimits(size=1, queue=2), 7)
    for client in (1, 2, 3):
        pool.want(client, at(0))
    (refused,) = pool.want(4, at(1))
    assert isinstance(refused, Refuse)
    assert refused.refusal.sqlstate == "53300"
    assert refused.refusal.message == "pgherd: 2 clients wait for a server of this pool already"
    pool.leave(3, at(2))
    assert told(pool.want(4, at(2))) == ""


def test_who_waits_too_long_is_refused_in_order() -> None:
    pool = pool_of(PoolLimits(size=1, wait_ms=1000), 7)
    for client in (1, 2, 3):
        pool.want(client, at(client * 100))
    assert told(pool.tick(at(1199))) == ""
    assert told(pool.tick(at(1200))) == "refuse 2 53300"
    assert told(pool.tick(at(1300))) == "refuse 3 53300"
    assert pool.seen(at(1300)).refused == 2


def test_the_reserve_is_for_those_that_waited_long_and_goes_when_it_is_not_needed() -> None:
    limits = PoolLimits(size=1, reserve=2, reserve_after_ms=1000)
    pool = pool_of(limits, 7)
    for client in (1, 2, 3):
        pool.want(client, at(client))
    assert told(pool.tick(at(1001))) == ""
    assert told(pool.tick(at(1002))) == "open 2"
    assert told(pool.tick(at(1003))) == "open 3"
    assert told(pool.want(4, at(1003))) == ""
    assert told(pool.opened(2, 8, at(1010))) == "lend 8>2"
    assert told(pool.opened(3, 9, at(1010))) == "lend 9>3"
    assert told(pool.tick(at(9000))) == ""  # three there are, and no more
    assert told(pool.gave_back(9, at(9000), fit=True)) == "lend 9>4"
    for server in (7, 8, 9):
        pool.gave_back(server, at(9500), fit=True)
    assert told(pool.tick(at(10_499))) == ""
    assert told(pool.tick(at(10_500))) == "close 7 reserve not needed, close 8 reserve not needed"


def test_idle_servers_end_down_to_the_least_and_missing_ones_are_opened() -> None:
    limits = PoolLimits(size=3, min_size=1, idle_ms=1000)
    pool = pool_of(limits, 7, 8, 9)
    assert told(pool.tick(at(999))) == ""
    assert told(pool.tick(at(1000))) == "close 7 idle, close 8 idle"
    assert told(pool.tick(at(9000))) == ""
    pool.lost(9, at(9000))
    assert told(pool.tick(at(9001))) == ""  # asked for already, when the last one was lost
    assert pool.seen(at(9001)).servers_opening == 1
    assert told(Pool(limits, now=at(0)).tick(at(0))) == "open 1"


def test_old_servers_end_one_after_another_and_not_under_a_client() -> None:
    pool = pool_of(PoolLimits(size=2, lifetime_ms=10_000, idle_ms=0), 7, 8)
    pool.want(1, at(0))
    assert told(pool.tick(at(9_999))) == ""
    assert told(pool.tick(at(10_000))) == "close 7 lifetime over"
    assert told(pool.gave_back(8, at(10_100), fit=True)) == ""
    assert told(pool.tick(at(10_499))) == ""
    assert told(pool.tick(at(10_500))) == "close 8 lifetime over"


def test_an_old_server_ends_as_it_comes_back_and_whoever_waits_gets_a_new_one() -> None:
    pool = pool_of(PoolLimits(size=1, lifetime_ms=10_000), 7)
    pool.want(1, at(0))
    pool.want(2, at(0))
    assert told(pool.gave_back(7, at(11_000), fit=True)) == "close 7 lifetime over, open 2"


def test_other_limits_hold_at_once() -> None:
    pool = pool_of(PoolLimits(size=3), 7, 8, 9)
    pool.want(1, at(0))
    assert (
        told(pool.limit(PoolLimits(size=1), at(1)))
        == "close 7 pool is smaller, close 8 pool is smaller"
    )
    pool.want(2, at(1))
    assert told(pool.limit(PoolLimits(size=2), at(2))) == "open 4"
    assert told(pool.opened(4, 10, at(3))) == "lend 10>2"
    pool.limit(PoolLimits(size=1), at(4))
    assert told(pool.gave_back(10, at(5), fit=True)) == "close 10 pool is smaller"
    assert told(pool.gave_back(9, at(5), fit=True)) == ""


# Servers that cannot be opened


def test_after_a_failure_servers_are_tried_one_at_a_time_until_one_opens() -> None:
    pool = Pool(PoolLimits(size=3), now=at(0))
    assert [told(pool.want(client, at(0))) for client in (1, 2, 3)] == [
        "open 1",
        "open 2",
        "open 3",
    ]
    for ticket in (1, 2, 3):
        assert told(pool.not_opened(ticket, at(10))) == ""
    assert told(pool.tick(at(10))) == ""
    assert told(pool.tick(at(10 + RETRY_MS))) == "open 4"
    assert told(pool.tick(at(11 + RETRY_MS))) == ""
    assert told(pool.opened(4, 7, at(600))) == "lend 7>1"
    assert told(pool.tick(at(601))) == "open 5, open 6"


def test_all_are_told_why_if_the_server_takes_no_login_and_there_is_no_other() -> None:
    pool = Pool(TWO, now=at(0))
    pool.want(1, at(0))
    pool.want(2, at(0))
    assert told(pool.not_opened(1, at(1), refusal=NO_LOGIN)) == ""  # another is on its way
    assert told(pool.not_opened(2, at(2), refusal=NO_LOGIN)) == "refuse 1 28000, refuse 2 28000"
    assert pool.is_quiet


def test_who_has_others_to_wait_for_goes_on_waiting() -> None:
    pool = pool_of(TWO, 7)
    pool.want(1, at(0))
    assert told(pool.want(2, at(0))) == "open 2"
    assert told(pool.not_opened(2, at(1), refusal=NO_LOGIN)) == ""
    assert told(pool.gave_back(7, at(2), fit=True)) == "lend 7>2"


# Pause, hold, reconnect, end


def test_a_paused_pool_lends_nothing_and_ends_its_servers() -> None:
    pool = pool_of(PoolLimits(size=3), 7, 8)
    pool.want(1, at(0))
    pool.want(2, at(0))
    pool.want(3, at(0))  # opens the third
    pool.gave_back(7, at(0), fit=True)
    pool.want(4, at(1))
    assert told(pool.pause(at(2))) == ""
    assert told(pool.want(5, at(3))) == ""
    assert told(pool.opened(3, 9, at(4))) == "close 9 paused"
    assert told(pool.gave_back(8, at(5), fit=True)) == "close 8 paused"
    assert pool.seen(at(5)).servers_active == 1
    assert told(pool.gave_back(7, at(6), fit=True)) == "close 7 paused"
    assert pool.is_quiet
    assert pool.seen(at(6)).is_paused
    assert told(pool.resume(at(7))) == "open 4, open 5"


def test_pausing_ends_what_is_idle() -> None:
    assert told(pool_of(TWO, 7, 8).pause(at(1))) == "close 7 paused, close 8 paused"


def test_who_waits_too_long_in_a_pause_is_told_of_it() -> None:
    pool = Pool(PoolLimits(wait_ms=1000), now=at(0))
    pool.pause(at(0))
    assert told(pool.want(1, at(0))) == ""
    (refused,) = pool.tick(at(1000))
    assert isinstance(refused, Refuse)
    assert "this pool is paused" in refused.refusal.message
    assert "RESUME" in refused.refusal.hint


def test_a_held_pool_keeps_its_servers_and_lends_them_afterwards() -> None:
    pool = pool_of(TWO, 7)
    assert told(pool.hold(at(0))) == ""
    assert told(pool.want(1, at(1))) == ""
    assert told(pool.want(2, at(1))) == ""
    assert told(pool.tick(at(2))) == ""
    assert told(pool.unhold(at(3))) == "lend 7>1, open 2"


def test_reconnecting_replaces_servers_when_nobody_has_them() -> None:
    pool = pool_of(PoolLimits(size=3), 7, 8)
    pool.want(1, at(0))
    pool.want(2, at(0))
    assert told(pool.want(3, at(0))) == "open 3"
    pool.gave_back(7, at(1), fit=True)
    assert pool.server_of(3) == 7
    assert told(pool.reconnect(at(2))) == ""
    assert told(pool.opened(3, 9, at(3))) == "close 9 reconnect"  # it was dialled before
    assert told(pool.gave_back(8, at(4), fit=True)) == "close 8 reconnect"


def test_what_was_opened_since_a_reconnect_stays() -> None:
    pool = pool_of(TWO, 7, 8)
    assert told(pool.reconnect(at(1))) == "close 7 reconnect, close 8 reconnect"
    assert told(pool.want(1, at(2))) == "open 3"
    pool.opened(3, 9, at(3))
    assert told(pool.gave_back(9, at(4), fit=True)) == ""


def test_an_ended_pool_opens_nothing_and_its_clients_go_to_another_with_their_time() -> None:
    old, new = pool_of(PoolLimits(size=1), 7), Pool(PoolLimits(size=1, wait_ms=100), now=at(0))
    old.want(1, at(0))
    old.want(2, at(10))
    assert told(old.end(at(50))) == ""
    for client, since in list(old.waiting):
        old.leave(client, at(50))
        assert told(new.want(client, at(50), since=since)) == "open 1"
    assert told(old.gave_back(7, at(60), fit=True)) == "close 7 pool ended"
    assert old.is_unused
    assert told(new.tick(at(110))) == "refuse 2 53300"


def test_who_comes_from_another_pool_keeps_its_place_among_those_that_wait() -> None:
    pool = pool_of(PoolLimits(size=1, wait_ms=100), 7)
    pool.want(1, at(0))
    for client, since in ((2, 20), (3, 40)):
        pool.want(client, at(since))
    pool.want(4, at(50), since=at(30))
    assert told(pool.gave_back(7, at(60), fit=True)) == "lend 7>2"
    assert told(pool.tick(at(130))) == "refuse 4 53300"
    assert told(pool.gave_back(7, at(131), fit=True)) == "lend 7>3"


# Room across pools


def test_without_room_clients_wait_until_there_is_some() -> None:
    room = Places(1)
    one, other = (Pool(TWO, now=at(0), room=room) for _ in range(2))
    assert told(one.want(1, at(0))) == "open 1"
    assert told(other.want(2, at(0))) == ""
    assert other.is_cramped
    one.opened(1, 7, at(1))
    one.gave_back(7, at(2), fit=True)
    assert told(one.evict(at(3))) == "close 7 its place is needed"
    assert told(other.tick(at(3))) == "open 1"
    assert not other.is_cramped


def test_what_is_to_stay_open_is_not_given_up_for_others() -> None:
    pool = pool_of(PoolLimits(size=2, min_size=1), 7, 8)
    assert told(pool.evict(at(1))) == "close 7 its place is needed"
    assert told(pool.evict(at(2))) == ""


@pytest.mark.parametrize("how", ["refused", "lost", "closed"])
def test_a_place_is_given_back_however_a_server_ends(how: str) -> None:
    room = Places(1)
    pool = Pool(PoolLimits(size=1), now=at(0), room=room)
    pool.want(1, at(0))
    assert room.free == 0
    if how == "refused":
        pool.not_opened(1, at(1), refusal=NO_LOGIN)
    else:
        pool.opened(1, 7, at(1))
    if how == "lost":
        pool.lost(7, at(2))
    if how == "closed":
        pool.gave_back(7, at(2), fit=False)
    assert room.free == 1


# Whatever happens


class Walk:
    """A pool, everything that may happen to it, and what has to be so whatever does."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.limits = self._limits()
        self.room = Places(self.draw.choice([1, 3, 1000]))
        self.places = self.room.free
        self.pool = Pool(self.limits, now=at(0), room=self.room)
        self.now = 0
        self.tickets: list[int] = []
        self.lent: dict[int, int | None] = {}
        self.idle: set[int] = set()
        self.queue: list[int] = []
        self.most = self.limits.size + self.limits.reserve
        self.clients = self.servers = 0

    def _limits(self) -> PoolLimits:
        size = self.draw.randint(1, 4)
        return PoolLimits(
            size=size,
            min_size=self.draw.randint(0, size),
            reserve=self.draw.choice([0, 0, 2]),
            reserve_after_ms=50,
            queue=self.draw.choice([0, 3]),
            wait_ms=self.draw.choice([0, 300]),
            idle_ms=self.draw.choice([0, 200]),
            lifetime_ms=self.draw.choice([0, 500]),
        )

    def step(self) -> None:
        self.now += self.draw.choice([0, 0, 1, 10, 60])
        draw, pool, now = self.draw, self.pool, at(self.now)
        match draw.randrange(13):
            case 0 | 1 | 2:
                self.clients += 1
                self.queue.append(self.clients)
                self.take(pool.want(self.clients, now))
            case 3 | 4 if self.tickets:
                ticket = self.tickets.pop(draw.randrange(len(self.tickets)))
                self.opened(ticket, now)
            case 5 | 6 | 7 if self.lent:
                server = draw.choice(list(self.lent))
                del self.lent[server]
                fit = draw.random() < 0.8
                if fit:
                    self.idle.add(server)
                self.take(pool.gave_back(server, now, fit=fit), closable={server})
            case 8:
                self.leave(now)
            case 9 if self.lent or self.idle:
                server = draw.choice([*self.lent, *self.idle])
                self.lent.pop(server, None)
                self.idle.discard(server)
                self.take(pool.lost(server, now))
            case 10 if draw.random() < 0.3:
                self.order(now)
            case 11:
                self.passes()
            case _:
                self.take(pool.tick(now))
        self.look(now)

    def opened(self, ticket: int, now: Instant) -> None:
        match self.draw.randrange(5):
            case 0:
                self.take(self.pool.not_opened(ticket, now))
            case 1:
                self.take(self.pool.not_opened(ticket, now, refusal=NO_LOGIN))
            case _:
                self.servers += 1
                self.idle.add(self.servers)
                self.take(self.pool.opened(ticket, self.servers, now))

    def passes(self) -> None:
        """A server that is lent goes on to somebody who did not wait."""
        having = [server for server, client in self.lent.items() if client is not None]
        if having:
            server = self.draw.choice(having)
            self.clients += 1
            self.lent[server] = self.clients
            self.pool.passes(server, self.clients)
            assert self.pool.server_of(self.clients) == server

    def leave(self, now: Instant) -> None:
        having = [client for client in self.lent.values() if client is not None]
        if not self.queue and not having:
            return
        client = self.draw.choice([*self.queue, *having])
        if client in self.queue:
            self.queue.remove(client)
        self.lent = {server: None if who == client else who for server, who in self.lent.items()}
        self.take(self.pool.leave(client, now))

    def order(self, now: Instant) -> None:
        match self.draw.randrange(6):
            case 0:
                self.take(self.pool.pause(now))
            case 1 | 2:
                self.take(self.pool.resume(now))
            case 3:
                self.take(self.pool.reconnect(now))
            case 4:
                limits = self._limits()
                self.most = max(self.most, limits.size + limits.reserve)
                self.limits = limits
                self.take(self.pool.limit(limits, now))
            case 5:
                self.take(self.pool.hold(now))
                self.take(self.pool.tick(now))
                self.take(self.pool.unhold(now))

    def take(self, steps: Sequence[Step], *, closable: Collection[int] = ()) -> None:
        for step in steps:
            match step:
                case Open(ticket=ticket):
                    assert ticket not in self.tickets
                    assert not self.pool.is_paused, "opened in a pause"
                    self.tickets.append(ticket)
                case Lend(server=server, client=client):
                    assert not self.pool.is_paused, "lent in a pause"
                    assert not self.pool.is_held, "lent while it is held"
                    assert server in self.idle, "lent while somebody has it, or after its end"
                    assert client == self.queue.pop(0), "somebody was overtaken"
                    self.idle.remove(server)
                    self.lent[server] = client
                case Close(server=server):
                    assert server in self.idle or server in closable, "closed under a client"
                    self.idle.discard(server)
                case Refuse(client=client):
                    self.queue.remove(client)

    def look(self, now: Instant) -> None:
        seen = self.pool.seen(now)
        having = [client for client in self.lent.values() if client is not None]
        assert seen.clients_waiting == len(self.queue)
        assert [client for client, _ in self.pool.waiting] == self.queue
        assert seen.clients_active == seen.servers_active == len(having)
        assert seen.servers_resetting == len(self.lent) - len(having)
        assert seen.servers_idle == len(self.idle)
        assert seen.servers_opening == len(self.tickets)
        servers = len(self.lent) + len(self.idle) + len(self.tickets)
        assert servers <= self.most
        assert servers == self.places - self.room.free
        assert not (self.queue and self.idle) or self.pool.is_paused, "waits beside an idle server"
        assert not (self.pool.is_paused and self.idle), "idle in a pause"

    def finish(self) -> None:
        """Everybody is served, and a pause ends every server."""
        self.take(self.pool.resume(at(self.now)))
        for _ in range(10_000):
            if not (self.queue or self.lent or self.tickets):
                break
            self.now += 100
            now = at(self.now)
            for ticket in list(self.tickets):
                self.tickets.remove(ticket)
                self.servers += 1
                self.idle.add(self.servers)
                self.take(self.pool.opened(ticket, self.servers, now))
            for server in list(self.lent):
                del self.lent[server]
                self.idle.add(server)
                self.take(self.pool.gave_back(server, now, fit=True))
            self.take(self.pool.tick(now))
            self.look(now)
            if not self.queue and not self.lent:
                break
        assert not self.queue, "somebody waits for ever"
        self.take(self.pool.pause(at(self.now)))
        for ticket in list(self.tickets):
            self.tickets.remove(ticket)
            self.servers += 1
            self.idle.add(self.servers)
            self.take(self.pool.opened(ticket, self.servers, at(self.now)))
        assert self.pool.is_quiet
        assert self.room.free == self.places


@pytest.mark.parametrize("seed", range(150))
def test_whatever_happens(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(400):
        walk.step()
    walk.finish()
