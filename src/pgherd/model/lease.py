"""A lease: the ledger's word, for a limited time, that a member leads; and when its time is over.

Owns the record and the arithmetic of both ends (PROTOCOL.md 9). No clock is read here: the ledger
holds durations and opaque readings, who compares them with a clock is `plan.leaseclock`.
"""

from __future__ import annotations

import msgspec

from pgherd.model.ids import Instant, Lsn, MemberKey, Term

DRIFT_PERCENT = 1
"""Clock assumption CA: the rates of any two nodes' BOOTTIME differ by no more than this."""

LAG_MS_MAX = 500
"""How late a holder may notice that its deadline has passed."""

MARGIN_MS = 50
DELIVERY_MS = 100
RENEWALS_PER_TTL = 4
TTL_MS = 10_000
TTL_ASYNC_MS = 5_000
"""In mode async a failover of a primary that nobody hears waits for this."""


class Ask(msgspec.Struct, frozen=True):
    """When a holder asked for a renewal, by its own clock, read before it asked.

    by: that clock's boot; a reading means nothing after a reboot, and nothing to anybody else.
    """

    by: str
    at: Instant


class Lease(msgspec.Struct, frozen=True):
    """Who may count on being the primary, and for how long after its ask.

    id: new with every grant, never used again · renew_seq: how many renewals it has had · asked:
    the ask of the newest renewal · flush_lsn: how far the holder's WAL was durable then · expired:
    its time was over on a Raft leader's clock; only a new grant helps · former: the lease of
    another holder that had not ended when this one was granted; until then this one is not sole ·
    alone_at: the sync generation at which the holder was known to write alone, so that this lease
    bounds its writes; 0 where that is not known.
    """

    id: int
    holder: MemberKey
    term: Term
    ttl_ms: int
    renew_seq: int = 0
    asked: Ask | None = None
    flush_lsn: Lsn = Lsn(0)
    expired: bool = False
    former: Lease | None = None
    alone_at: int = 0

    @property
    def mark(self) -> tuple[int, int]:
        """What names this lease as of its newest renewal."""
        return self.id, self.renew_seq


def _part(ttl_ms: int, percent: int) -> int:
    """A percentage of a duration, rounded up: towards safety."""
    return -(-ttl_ms * percent // 100)


def margin_ms(ttl_ms: int) -> int:
    """How much earlier than its time a holder stops: drift on both sides, its own lag, 50 ms."""
    return _part(ttl_ms, 2 * DRIFT_PERCENT) + LAG_MS_MAX + MARGIN_MS


def held_ms(ttl_ms: int) -> int:
    """For how long after its ask a holder may count on a renewal, by its own clock."""
    return ttl_ms - margin_ms(ttl_ms)


def expiry_ms(ttl_ms: int) -> int:
    """How long a Raft leader waits, by its own clock, before it lets a lease expire."""
    return ttl_ms + _part(ttl_ms, DRIFT_PERCENT) + DELIVERY_MS


def renew_ms(ttl_ms: int) -> int:
    """The time between two renewals, by the holder's clock."""
    return ttl_ms // RENEWALS_PER_TTL
