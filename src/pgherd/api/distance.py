"""How far a member is from the primary, and where it truly stands. Pure.

Lag is measured against the primary's position, never against what a replica happened to receive,
and in time against when this node heard of it: one that was cut off an hour ago is an hour behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.api import following
from pgherd.ledger.lineage import contains
from pgherd.model.facts import Kind, Member
from pgherd.model.ids import Lsn
from pgherd.plan import upstreams
from pgherd.plan.truth import Standing, standing

if TYPE_CHECKING:
    from pgherd.api.views import Seen


def truth(seen: Seen, member: Member) -> tuple[Standing, str] | None:
    """Where a replica stands, and why."""
    report = seen.fresh(member.node)
    if report is None or member.kind is not Kind.DATA:
        return None
    source = upstreams.source(seen.facts, report.server)
    feeder = seen.fresh(source) if source is not None else None
    return standing(seen.facts, member, report, feeder)


def primary_lsn(seen: Seen) -> Lsn | None:
    """How far the newest known WAL of the leader reaches."""
    leader = seen.facts.leader
    report = seen.newest(leader.node) if leader is not None else None
    if report is None or report.server.position is None:
        return None
    return report.server.wal_end


def lag_bytes(seen: Seen, member: Member) -> int | None:
    """Bytes of the primary's WAL that a member has not replayed; None when that is not known.

    A position that is not on the leader's history has no lag: it will be rewound.
    """
    if seen.facts.follows is not None:
        return following.lag_bytes(seen, member) if member.kind is Kind.DATA else None
    end, report = primary_lsn(seen), seen.newest(member.node)
    if member.kind is not Kind.DATA or end is None or report is None:
        return None
    if seen.facts.is_leader(member.node):
        return 0
    position = report.server.position
    if position is None or not contains(seen.facts.history, position):
        return None
    return max(0, end - position.lsn)


def lag_ms(seen: Seen, member: Member) -> int | None:
    """For how long the primary has had what a member has not replayed; None when not known."""
    if seen.facts.follows is not None:
        return None  # when the remote had it is not known here
    behind, report = lag_bytes(seen, member), seen.newest(member.node)
    if behind is None or report is None or report.server.position is None:
        return behind  # the primary's own is none
    return seen.trail.lag_ms(report.server.position.lsn, now=seen.now) if behind else 0
