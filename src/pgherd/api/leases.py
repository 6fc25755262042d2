"""What a lease means to people: whose it is, how long it lasts, what it does that it ran out.

Pure. Owns the derivation that `views` shows beside all others.
"""

from __future__ import annotations

from typing import Literal

from pgherd.api import schema
from pgherd.model.facts import Facts, Phase
from pgherd.model.observation import Observation


def seconds_left(report: Observation | None) -> float | None:
    """What a node says is left of its lease; None where it holds none."""
    left = report.lease_left_ms if report is not None else None
    return left / 1000 if left is not None else None


def shown(facts: Facts, report: Observation | None) -> schema.Lease | None:
    """The ledger's lease. report: of its holder, None when it is not heard.

    lost: by the holder's clock, while consensus has not agreed on its end (yet, or cannot).
    """
    lease = facts.lease
    if lease is None:
        return None
    left = seconds_left(report)
    state: Literal["held", "lost", "expired", "unknown"] = "held" if left else "lost"
    if lease.expired or lease.term != facts.term:
        state, left = "expired", None
    elif left is None:
        state = "unknown"
    return schema.Lease(
        holder=lease.holder.node,
        state=state,
        seconds_left=left,
        ttl_seconds=lease.ttl_ms / 1000,
        is_sole=lease.former is None,
    )


def problem(facts: Facts, lease: schema.Lease | None) -> str:
    """That the lease of a stable term ran out, and what that does; "" while it did not."""
    if lease is None or facts.phase is not Phase.STABLE or lease.state in ("held", "unknown"):
        return ""
    effect = "that stops no write" if facts.sync.voters else "writes wait, no standby has them"
    return f"the lease of {lease.holder} ran out, consensus does not renew it: {effect}"
