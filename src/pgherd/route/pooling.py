"""Who gets which server connection of one pool, when one is opened or closed, who is refused. Pure.

Theory of operation. A pool has servers, clients that each have one of them, and clients that wait.
A server is opening (a ticket stands for it), lent, resetting (given up by its client, not lendable
yet) or idle. Whoever wants a server gets the idle one that worked last, or waits behind those that
came earlier. Every call returns the steps to take, in order; a step is carried out by the caller,
and what comes of it is told by another call.

 - Servers are opened while clients wait for whom none is on its way, up to `size`; for those that
   have waited for `reserve_after_ms` there are `reserve` more. A server that could not be opened is
   tried again after `RETRY_MS`, and one at a time until one could.
 - A server beyond `size` ends when it was idle for `reserve_after_ms`, any beyond `min_size` when
   it was idle for `idle_ms`, and one that is older than `lifetime_ms` when nobody has it; of these
   the ends are spread, so that the servers of one moment do not all end in one.
 - A paused pool lends and opens nothing and ends its servers as they come back; a held one lends
   and opens nothing and keeps them. Who waits goes on waiting, up to `wait_ms`.

A pool may stay while what its servers lead to changes (`reconnect`), or be ended (`end`): then
those that wait leave it for another one, with the time since when they do (`waiting`, `want`).
Leaves sockets, logins and what makes a server fit to be lent to `relay`; limits across pools are
the `room`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pgherd.model.ids import Instant
from pgherd.route.poolsteps import (
    Boundless,
    Close,
    Lend,
    Open,
    PoolLimits,
    Refuse,
    Room,
    Seen,
    ServerSeen,
    Step,
)
from pgherd.wire.answer import TOO_MANY_CONNECTIONS, Refusal

RETRY_MS = 500
"""How long after a failure a server is tried again."""

_HINT_FULL = "Raise queue or size in proxy.pools, or see who has the servers: SHOW CLIENTS."
_HINT_LATE = "Raise size in proxy.pools, or see who has the servers: SHOW CLIENTS."
_HINT_PAUSED = "RESUME on the database pgherd ends the pause."


class _Server:
    __slots__ = ("born", "client", "idle_since", "is_stale")

    def __init__(self, born: Instant) -> None:
        self.born = born
        self.client: int | None = None
        self.idle_since: Instant | None = None
        self.is_stale = False


class Pool:
    """See the module's theory of operation. Numbers of servers are given by `opened`."""

    def __init__(self, limits: PoolLimits, *, now: Instant, room: Room | None = None) -> None:
        self.limits = limits
        self.is_paused = False
        self.is_held = False
        self.is_ended = False
        self.is_cramped = False
        """Whether a client waits for a server that there was no room for."""
        self._room = room or Boundless()
        self._servers: dict[int, _Server] = {}
        self._idle: dict[int, None] = {}
        """In the order in which they came back: the last worked last."""
        self._has: dict[int, int] = {}
        """Which server a client has."""
        self._queue: dict[int, Instant] = {}
        """Since when clients wait, in their order."""
        self._opening: dict[int, bool] = {}
        """Whether what a ticket stands for was superseded while it was opened."""
        self._tickets = 0
        self._retry_at = now
        self._has_failed = False
        self._age_end_at = now
        self._resetting = 0
        self._lent = self._waited = self._waited_ms = 0
        self._opened = self._not_opened = self._closed = self._refused = 0

    # What clients want

    def want(self, client: int, now: Instant, *, since: Instant | None = None) -> list[Step]:
        """A client needs a server. since: it waits already, as a client of another pool."""
        assert client not in self._has
        assert client not in self._queue
        if self._idle and self._lends:
            return [self._lend(self._idle.popitem()[0], client)]
        most = self.limits.queue
        if most and since is None and len(self._queue) >= most:
            text = f"pgherd: {len(self._queue)} clients wait for a server of this pool already"
            return [self._refuse(client, Refusal(TOO_MANY_CONNECTIONS, text, _HINT_FULL))]
        self._queue[client] = now if since is None else since
        if since is not None:  # among those that came here first there may be later ones
            self._queue = dict(sorted(self._queue.items(), key=lambda one: one[1]))
        return list(self._fill(now))

    def leave(self, client: int, now: Instant) -> list[Step]:
        """A client wants no server any more: it waits no longer, or gives up the one that it has.

        That one is not lent before `gave_back`.
        """
        self._queue.pop(client, None)
        server = self._has.pop(client, None)
        if server is not None:
            self._servers[server].client = None
            self._resetting += 1
        return []

    def passes(self, server: int, client: int) -> None:
        """A server that is lent goes on to another client as it is."""
        found = self._servers.get(server)
        if found is None or found.client is None:
            return
        del self._has[found.client]
        found.client, self._has[client] = client, server

    # What became of servers

    def opened(self, ticket: int, server: int, now: Instant) -> list[Step]:
        """A server was opened, and gets a number of the caller's."""
        assert server not in self._servers
        is_stale = self._opening.pop(ticket)
        self._has_failed = False
        self._opened += 1
        found = self._servers[server] = _Server(now)
        found.is_stale = is_stale
        return self._ready(server, now)

    def not_opened(
        self, ticket: int, now: Instant, *, refusal: Refusal | None = None
    ) -> list[Step]:
        """A server could not be opened. refusal: what everybody is told if there is no other."""
        del self._opening[ticket]
        self._room.give()
        self._not_opened += 1
        self._has_failed = True
        self._retry_at = Instant(now + RETRY_MS)
        if refusal is None or self._servers or self._opening:
            return []
        return [self._refuse(client, refusal) for client in self._drained_queue()]

    def gave_back(self, server: int, now: Instant, *, fit: bool) -> list[Step]:
        """A server has done its work. fit: another client may have it as it is."""
        found = self._servers.get(server)
        if found is None:
            return []
        assert found.idle_since is None
        self._take_from_client(found)
        if not fit:
            return [self._close(server, "unfit"), *self._fill(now)]
        return self._ready(server, now)

    def lost(self, server: int, now: Instant) -> list[Step]:
        """A server is gone; whoever had it has none any more."""
        found = self._servers.pop(server, None)
        if found is None:
            return []
        if found.idle_since is not None:
            del self._idle[server]
        else:
            self._take_from_client(found)
        self._room.give()
        self._closed += 1
        return list(self._fill(now))

    # What time and operators do

    def tick(self, now: Instant) -> list[Step]:
        """What is due by now: to be called all the time, and when there is room again."""
        steps = [*self._late(now), *self._ended_of_age(now), *self._ended_idle(now)]
        steps += self._fill(now)
        return steps

    def pause(self, now: Instant) -> list[Step]:
        """Lend nothing, and end every server as soon as nobody has it."""
        self.is_paused = True
        return [self._close(server, "paused") for server in self._taken_idle()]

    def resume(self, now: Instant) -> list[Step]:
        """End the pause."""
        self.is_paused = False
        return self._serve(now)

    def hold(self, now: Instant) -> list[Step]:
        """Lend nothing, but keep what is idle."""
        self.is_held = True
        return []

    def unhold(self, now: Instant) -> list[Step]:
        """End the hold."""
        self.is_held = False
        return self._serve(now)

    def reconnect(self, now: Instant) -> list[Step]:
        """Replace every server: now, or when nobody has it any more."""
        for found in self._servers.values():
            found.is_stale = True
        self._opening = dict.fromkeys(self._opening, True)
        self._retry_at = now
        steps: list[Step] = [self._close(server, "reconnect") for server in self._taken_idle()]
        return steps + list(self._fill(now))

    def limit(self, limits: PoolLimits, now: Instant) -> list[Step]:
        """Other limits hold from now on."""
        self.limits = limits
        steps: list[Step] = []
        while self._idle and len(self._servers) > limits.size + limits.reserve:
            steps.append(self._end_idle(next(iter(self._idle)), "pool is smaller"))
        return steps + self.tick(now)

    def end(self, now: Instant) -> list[Step]:
        """The pool is over: its servers end as in a pause, and none is opened again."""
        self.is_ended = True
        return [self._close(server, "pool ended") for server in self._taken_idle()]

    def evict(self, now: Instant) -> list[Step]:
        """Give up the server that was idle longest, for another pool has no room."""
        if not self._idle or self.size <= self.limits.min_size:
            return []
        return [self._end_idle(next(iter(self._idle)), "its place is needed")]

    # What is seen

    @property
    def waiting(self) -> Iterable[tuple[int, Instant]]:
        """Clients that wait, in their order, and since when."""
        return self._queue.items()

    @property
    def waits(self) -> int:
        """How many clients wait."""
        return len(self._queue)

    @property
    def size(self) -> int:
        """How many servers it has, those on their way included."""
        return len(self._servers) + len(self._opening)

    @property
    def is_quiet(self) -> bool:
        """Whether it has no servers, and none is on its way."""
        return not self.size

    @property
    def is_unused(self) -> bool:
        """Whether nobody would miss it."""
        keeps = self.limits.min_size and not self.is_ended
        return self.is_quiet and not self._queue and not keeps

    @property
    def idle_since(self) -> Instant | None:
        """Since when the server is idle that is idle longest."""
        return self._servers[next(iter(self._idle))].idle_since if self._idle else None

    def server_of(self, client: int) -> int | None:
        """The server that a client has."""
        return self._has.get(client)

    def seen(self, now: Instant) -> Seen:
        """What people are told of it."""
        first = next(iter(self._queue.values()), now)
        return Seen(
            clients_active=len(self._has),
            clients_waiting=len(self._queue),
            servers_active=len(self._has),
            servers_idle=len(self._idle),
            servers_opening=len(self._opening),
            servers_resetting=self._resetting,
            longest_wait_ms=max(0, now - first),
            is_paused=self.is_paused,
            lent=self._lent,
            waited=self._waited,
            waited_ms=self._waited_ms,
            opened=self._opened,
            not_opened=self._not_opened,
            closed=self._closed,
            refused=self._refused,
        )

    def each(self) -> Iterator[ServerSeen]:
        """Every server that is open."""
        for number, one in self._servers.items():
            idle_or_not = "idle" if one.idle_since is not None else "resetting"
            state = "active" if one.client is not None else idle_or_not
            yield ServerSeen(number, state, one.client, one.born)

    # How it is decided

    @property
    def _lends(self) -> bool:
        return not (self.is_paused or self.is_held or self.is_ended)

    @property
    def _capacity(self) -> int:
        return self.limits.size + self.limits.reserve

    def _ready(self, server: int, now: Instant) -> list[Step]:
        """A server that nobody has: it is lent, kept, or ended and replaced."""
        why = self._why_end(server, now)
        if why:
            return [self._close(server, why), *self._fill(now)]
        if self._queue and self._lends:
            return [self._lend_first(server, now)]
        self._servers[server].idle_since = now
        self._idle[server] = None
        return []

    def _why_end(self, server: int, now: Instant) -> str:
        found = self._servers[server]
        if self.is_paused or self.is_ended:
            return "paused" if self.is_paused else "pool ended"
        if found.is_stale:
            return "reconnect"
        if self.size > self._capacity:
            return "pool is smaller"
        if self._is_of_age(found, now):
            return self._of_age(now)
        return ""

    def _serve(self, now: Instant) -> list[Step]:
        """Lend what is idle to those that wait, and open the rest."""
        steps: list[Step] = []
        while self._idle and self._queue and self._lends:
            steps.append(self._lend_first(self._idle.popitem()[0], now))
        return steps + list(self._fill(now))

    def _fill(self, now: Instant) -> Iterator[Step]:
        """Open what is missing, as far as it is allowed."""
        self.is_cramped = False
        if not self._lends or now < self._retry_at:
            return
        while (open_now := self.size) < self._capacity:
            if self._has_failed and self._opening:
                return
            if not self._needs(open_now, now):
                return
            if not self._room.take():
                self.is_cramped = bool(self._queue)
                return
            self._tickets += 1
            self._opening[self._tickets] = False
            yield Open(self._tickets)

    def _needs(self, open_now: int, now: Instant) -> bool:
        if open_now < self.limits.min_size:
            return True
        on_their_way = len(self._opening)
        if open_now < self.limits.size:
            return len(self._queue) > on_their_way
        late = 0
        for since in self._queue.values():
            if now - since < self.limits.reserve_after_ms or late > on_their_way:
                break
            late += 1
        return late > on_their_way

    def _lend_first(self, server: int, now: Instant) -> Step:
        client = next(iter(self._queue))
        self._waited += 1
        self._waited_ms += max(0, now - self._queue.pop(client))
        return self._lend(server, client)

    def _lend(self, server: int, client: int) -> Step:
        found = self._servers[server]
        found.idle_since, found.client = None, client
        self._has[client] = server
        self._lent += 1
        return Lend(server, client)

    def _take_from_client(self, found: _Server) -> None:
        if found.client is None:
            self._resetting -= 1
        else:
            del self._has[found.client]
            found.client = None

    def _late(self, now: Instant) -> Iterator[Step]:
        limit = self.limits.wait_ms
        while limit and self._queue:
            client, since = next(iter(self._queue.items()))
            if now - since < limit:
                return
            del self._queue[client]
            why, hint = "no server of this pool became free", _HINT_LATE
            if self.is_paused:
                why, hint = "this pool is paused", _HINT_PAUSED
            text = f"pgherd: {why} within {limit} ms; nothing was sent to a server since"
            yield self._refuse(client, Refusal(TOO_MANY_CONNECTIONS, text, hint))

    def _ended_of_age(self, now: Instant) -> Iterator[Step]:
        for server in list(self._idle):
            if self._is_of_age(self._servers[server], now):
                yield self._end_idle(server, self._of_age(now))

    def _is_of_age(self, found: _Server, now: Instant) -> bool:
        lifetime = self.limits.lifetime_ms
        return bool(lifetime) and now - found.born >= lifetime and now >= self._age_end_at

    def _of_age(self, now: Instant) -> str:
        """All servers of one moment end within a tenth of a lifetime."""
        self._age_end_at = Instant(now + self.limits.lifetime_ms // (10 * self._capacity))
        return "lifetime over"

    def _ended_idle(self, now: Instant) -> Iterator[Step]:
        while self._idle:
            server = next(iter(self._idle))
            since = self._servers[server].idle_since
            assert since is not None
            count, limits = self.size, self.limits
            if count > limits.size and now - since >= limits.reserve_after_ms:
                yield self._end_idle(server, "reserve not needed")
            elif limits.idle_ms and count > limits.min_size and now - since >= limits.idle_ms:
                yield self._end_idle(server, "idle")
            else:
                return

    def _taken_idle(self) -> list[int]:
        idle = list(self._idle)
        self._idle.clear()
        return idle

    def _end_idle(self, server: int, why: str) -> Step:
        del self._idle[server]
        return self._close(server, why)

    def _close(self, server: int, why: str) -> Step:
        del self._servers[server]
        self._room.give()
        self._closed += 1
        return Close(server, why)

    def _drained_queue(self) -> list[int]:
        waiting = list(self._queue)
        self._queue.clear()
        return waiting

    def _refuse(self, client: int, refusal: Refusal) -> Step:
        self._refused += 1
        return Refuse(client, refusal)
