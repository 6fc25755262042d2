"""What a proxy tells of its pools: the values that reach the agent, the API and the metrics.

Owns their shape. What is counted is `pooling`'s and `relay`'s.
"""

from __future__ import annotations

import msgspec

from pgherd.route.poolsteps import Seen


class PoolReport(msgspec.Struct, frozen=True):
    """One user's servers at one database (as clients call it) of one node, by `seen` alone in how
    many states. size, reserve: what there may be of one pool; sessions with other startup
    parameters have pools of their own, and `pools` says how many these are.
    """

    database: str
    user: str
    server: str
    size: int
    reserve: int
    seen: Seen
    pools: int = 1

    def with_another(self, seen: Seen) -> PoolReport:
        """The same with one pool more."""
        return msgspec.structs.replace(
            self, seen=self.seen.with_another(seen), pools=self.pools + 1
        )


class PoolCounters(msgspec.Struct, frozen=True):
    """What the pools did so far and hold now. done: what -> how often (`relay.pooltally`) ·
    wait_counts: waits that ended with a server, by class (`relay.tally.HOLD_BUCKETS_S`).
    """

    pools: tuple[PoolReport, ...] = ()
    done: dict[str, int] = {}
    wait_counts: tuple[int, ...] = ()
    waited_ms: int = 0
