"""One pool's servers: those that are there, and who may borrow one.

Owns the map from numbers to sockets. Who gets which is `route.pooling`'s, and done by `pools`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

from pgherd.model.ids import Instant, NodeId
from pgherd.relay.lent import Family, Holder, PoolServer
from pgherd.relay.messages import ListenerSettings
from pgherd.relay.riding import Counts, with_riding
from pgherd.route.choose import Bound, Route
from pgherd.route.pooling import Pool
from pgherd.route.poolrules import Share
from pgherd.route.poolsteps import Seen
from pgherd.telemetry.boottime import now_ms
from pgherd.wire.answer import Refusal

if TYPE_CHECKING:
    from pgherd.relay.pools import Pools


class Borrower(Holder, Protocol):
    """A session that wants a server, or somebody who has to see one."""

    number: int
    listener: ListenerSettings
    family: Family | None

    @property
    def aim(self) -> Route:
        """Where the server is to be."""

    @property
    def avoid(self) -> Collection[NodeId]:
        """Whose servers it does not want."""

    @property
    def rides_to(self) -> Route | None:
        """Where its next transaction may pass elsewhere (`carrying`); None: nowhere."""

    def has(self, server: PoolServer, bound: Bound) -> None:
        """A server was lent."""

    def refuse(self, refusal: Refusal) -> None:
        """There will be none."""


class Lending:
    """One pool's servers. bound: where they lead · share: its room · riding: its number where they
    ride (`carrying`), 0 = none do · fetching: who borrows servers for that · fetched: how often one
    was · rode: what was done there, once that is over · encrypts: TLS is spoken with its servers.
    """

    def __init__(
        self, pools: Pools, family: Family, bound: Bound, pool: Pool, share: Share
    ) -> None:
        self._pools = pools
        self.family = family
        self.kind = family, bound.to_primary
        self.bound = bound
        self.pool = pool
        self.share = share
        self.servers: dict[int, PoolServer] = {}
        self.openings: set[asyncio.Task[None]] = set()
        self.encrypts = False
        self.riding = 0
        self.fetching: dict[int, Borrower] = {}
        self.fetched = 0
        self.rode = Counts()

    def seen(self, now: Instant) -> Seen:
        """What people are told of it."""
        counts, seen = self._pools.rides.of(self), self.pool.seen(now)
        return with_riding(seen, counts, fetching=len(self.fetching), fetched=self.fetched)

    def due(self, server: PoolServer, *, fit: bool) -> None:
        """A server was given back and can be lent again."""
        self._pools.run(self, self.pool.gave_back(server.number, now_ms(), fit=fit))

    def gone(self, server: PoolServer) -> None:
        """A server's socket is gone."""
        self.servers.pop(server.number, None)
        self._pools.run(self, self.pool.lost(server.number, now_ms()))
