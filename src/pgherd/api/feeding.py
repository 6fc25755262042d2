"""Who streams from whom, and why not from whom it should, for people. Pure.

Owns the words about cascading and delayed replicas that `views` shows. The questions are
`plan.upstreams`'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.model.facts import Member, Phase
from pgherd.model.ids import NodeId
from pgherd.model.observation import Observation
from pgherd.plan import upstreams

if TYPE_CHECKING:
    from pgherd.api.views import Seen


def source(seen: Seen, member: Member) -> NodeId | None:
    """From whom a replica streams, or is to, by its own word; None for one that follows nobody."""
    report = seen.fresh(member.node)
    return upstreams.source(seen.facts, report.server) if report is not None else None


def why(seen: Seen, member: Member) -> str:
    """Why a replica does not stream from whom its file names; "" where it does, or names none."""
    facts, named = seen.facts, upstreams.wish(seen.facts, member.node)
    if named is None:
        return upstreams.problem(facts, member.node)
    if facts.phase is not Phase.STABLE or facts.is_leader(member.node) or facts.is_leader(named):
        return ""
    if source(seen, member) in (named, None):
        return ""
    reason = upstreams.unwell(facts, seen.fresh(named))
    return f"{named} {reason}" if reason else f"{named} is there: it goes over to it soon"


def waits_out_its_delay(seen: Seen, report: Observation) -> bool:
    """Whether a delayed replica follows: it asks for no more before it has replayed what it has."""
    return report.server.delays and upstreams.source(seen.facts, report.server) is not None


def warnings(seen: Seen) -> list[str]:
    """What keeps replicas from the upstreams that their files name."""
    members = [member for _, member in sorted(seen.facts.members.items())]
    return [f"{one.node}: {text}" for one in members if (text := why(seen, one))]
