"""What was done in the pools of this process since it began, those that are no more included.

Owns the sums: by database as clients call it, and how long clients waited for a server. What a pool
has counted of itself is `route.pooling`'s.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pgherd.relay.tally import HOLD_BUCKETS_S

if TYPE_CHECKING:
    from pgherd.model.ids import Instant
    from pgherd.relay.lending import Lending
    from pgherd.relay.pooled import Pooled

LENT, WAITED_MS, REFUSED = "lent", "waited_ms", "refused"
OPENED, NOT_OPENED, CLOSED = "opened", "not_opened", "closed"
QUERIES = "queries"
CARRIED = "carried"
COUNTED = (LENT, WAITED_MS, REFUSED, OPENED, NOT_OPENED, CLOSED)


NAMES_MAX = 1000
OTHERS = "(others)"
"""What is counted of databases beyond so many, for a client may name whatever it likes."""


class PoolTally:
    """See the module's text. wait_counts: waits that ended with a server, by class."""

    def __init__(self) -> None:
        self.wait_counts = [0] * (len(HOLD_BUCKETS_S) + 1)
        self.waited_ms = 0
        self._over: dict[str, Counter[str]] = {}

    def lent_after(self, ms: int) -> None:
        """A client has got a server."""
        self.wait_counts[bisect_left(HOLD_BUCKETS_S, ms / 1000)] += 1
        self.waited_ms += ms

    def pool_over(self, lending: Lending, now: Instant) -> None:
        """A pool is no more."""
        _add(self._counts(lending.family.database), lending, now)

    def session_over(self, session: Pooled) -> None:
        """A client has left."""
        if session.family is not None:
            _add_queries(self._counts(session.family.database), session)

    def _counts(self, database: str) -> Counter[str]:
        """Of a database, or of all others once there are too many."""
        if database not in self._over and len(self._over) >= NAMES_MAX:
            database = OTHERS
        return self._over.setdefault(database, Counter())

    def by_database(
        self, lendings: Iterable[Lending], sessions: Iterable[Pooled], now: Instant
    ) -> dict[str, Counter[str]]:
        """The sums, with these that there are now."""
        found = {name: Counter(counts) for name, counts in self._over.items()}
        for lending in lendings:
            _add(found.setdefault(lending.family.database, Counter()), lending, now)
        for session in sessions:
            if session.family is not None:
                _add_queries(found.setdefault(session.family.database, Counter()), session)
        return found


def _add(counts: Counter[str], lending: Lending, now: Instant) -> None:
    seen = lending.seen(now)
    for name in COUNTED:
        counts[name] += getattr(seen, name)


def _add_queries(counts: Counter[str], session: Pooled) -> None:
    if session.tracker is not None:
        counts[QUERIES] += sum(session.answered)
