"""What the operator allows the pools of this proxy, and who gives a server up for another pool.

Pools of one user or one database share the server connections that there may be of it. A client
that waits although its own pool may open one more has it from the pool in which a server was idle
longest. Owns the places, and bringing new limits into force. The rules are `route.poolrules`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pgherd.model.ids import Instant
from pgherd.route.entry import Places
from pgherd.route.pooling import Pool
from pgherd.route.poolrules import PoolRules, Share
from pgherd.route.poolsteps import Step

if TYPE_CHECKING:
    from pgherd.relay.lending import Lending
    from pgherd.relay.lent import Family

Run = Callable[["Lending", Iterable[Step]], None]


class Shares:
    """One proxy's. rules: those in force · run: carries out what a pool says."""

    def __init__(self, rules: Callable[[], PoolRules], run: Run) -> None:
        self._rules = rules
        self._run = run
        self._places = Places()

    def pool_of(self, family: Family, now: Instant) -> tuple[Pool, Share]:
        """A new pool for a family, with its room."""
        rules, names = self._rules(), (family.user, family.database)
        share = Share(self._places, rules.servers_of(*names))
        return Pool(rules.limits_of(*names), now=now, room=share), share

    def limit(self, lendings: Iterable[Lending], now: Instant) -> None:
        """The rules have changed."""
        rules = self._rules()
        for lending in lendings:
            names = lending.family.user, lending.family.database
            lending.share.wanted = rules.servers_of(*names)
            limits = rules.limits_of(*names)
            if limits != lending.pool.limits:
                self._run(lending, lending.pool.limit(limits, now))

    def make_room(self, lending: Lending, others: Iterable[Lending], now: Instant) -> None:
        """Let a pool whose client waits in vain have a place of another one."""
        if not lending.pool.is_cramped:
            return
        lacking = lending.share.lacking()
        idle = [
            (since, place, one)
            for place, one in enumerate(others)
            if (since := one.pool.idle_since) is not None and lacking & one.share.wanted.keys()
        ]
        for _, _, one in sorted(idle, key=lambda found: found[:2]):
            steps = one.pool.evict(now)
            if steps:
                self._run(one, steps)
                self._run(lending, lending.pool.tick(now))
                return
