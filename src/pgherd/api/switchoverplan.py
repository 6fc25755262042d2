"""What a switchover would do now, before anybody asks for one: who could take over, and its steps.

Owns the words. Whether a member fits is `candidacy`'s, by rule 601's own condition; whom the
deciders would take of those who fit is their own preference (`plan.handover`).
"""

from __future__ import annotations

from fastapi import APIRouter

from pgherd.api import candidacy, distance, schema, views
from pgherd.api.changes import candidate_of, current_facts
from pgherd.api.deps import OperatorDep, ServicesDep
from pgherd.api.failures import Problem
from pgherd.api.shape import Model, NodeName
from pgherd.api.stories import reign_kind
from pgherd.api.views import Seen
from pgherd.model.facts import Facts, Member
from pgherd.model.ids import NodeId
from pgherd.plan import handover
from pgherd.plan.look import data_members
from pgherd.plan.rule import Situation

router = APIRouter()


class Candidate(Model):
    """A data member that does not lead. why_not: why it cannot take over now, "" where it can."""

    node: NodeName
    fits: bool
    why_not: str
    is_sync: bool
    lag_bytes: int | None


class SwitchoverPlan(Model):
    """What a switchover would do now. candidates: the one who would be taken first.

    why_not: why it would be refused, "" where it would begin · last_took_ms: the newest switchover
    that is kept, from the beginning of its epoch to its new primary; null where there was none.
    """

    ok: bool
    why_not: str
    old_primary: NodeName | None
    new_primary: NodeName | None
    epoch: int
    candidates: list[Candidate]
    steps: list[str]
    last_took_ms: int | None
    as_of: int


@router.post("/api/v1/cluster/switchover/plan")
async def switchover_plan(
    services: ServicesDep, caller: OperatorDep, body: schema.CandidateRequest | None = None
) -> SwitchoverPlan:
    """Who could take over, who would, and what happens then; changes nothing."""
    facts = await current_facts(services)
    if facts.follows is not None:
        text = "a standby cluster has no primary of its own to hand over from"
        raise Problem(412, "standby_cluster", text, hint="see docs/operate/standby-cluster.md")
    seen, wanted = services.seen(), candidate_of(facts, body)
    return await services.aside.answer(lambda: plan(seen, wanted))


def plan(seen: Seen, wanted: NodeId | None) -> SwitchoverPlan:
    """As the deciders would go about it with what this node has heard."""
    s = candidacy.situation(seen)
    found = [candidate(seen, s, member) for member in others(s)]
    asked = [one for one in found if wanted in (None, one.node)]
    fit = [one for one in asked if one.fits]
    old = views.primary_of(seen)
    if wanted is not None and not asked:
        why = f"{wanted} is the primary" if wanted == old else f"{wanted} holds no data"
    elif not asked:
        why = "no other member holds data"
    else:
        why = "" if fit else "; ".join(one.why_not for one in asked)
    new = NodeId(fit[0].node) if fit else None
    return SwitchoverPlan(
        ok=new is not None,
        why_not=why,
        old_primary=old,
        new_primary=new,
        epoch=seen.facts.term,
        candidates=found,
        steps=steps(old, new, epoch=seen.facts.term) if new is not None else [],
        last_took_ms=last_took_ms(seen.facts),
        as_of=seen.raft.applied,
    )


def others(s: Situation) -> list[Member]:
    """The data members that do not lead, in the order in which the deciders would take them."""
    found = [one for one in data_members(s.facts) if not s.facts.is_leader(one.node)]
    return sorted(found, key=lambda member: handover.preference(s, member.key))


def candidate(seen: Seen, s: Situation, member: Member) -> Candidate:
    why = candidacy.not_by_switchover(seen, member)
    return Candidate(
        node=member.node,
        fits=not why,
        why_not=why,
        is_sync=member.key in seen.facts.sync.voters,
        lag_bytes=distance.lag_bytes(seen, member),
    )


def steps(old: NodeId | None, new: NodeId, *, epoch: int) -> list[str]:
    """What happens, one after the other."""
    return [
        "proxies hold new transactions; sessions that no proxy ends are cut and connect again",
        f"{old} ends running transactions, ships all it has to {new}, and stops",
        f"{new} is promoted under epoch {epoch + 1}; nothing acknowledged is lost",
        f"proxies lead held clients to {new}, and {old} comes back as its replica",
    ]


def last_took_ms(facts: Facts) -> int | None:
    """Of the newest planned change that was carried through."""
    took = [
        reign.established_at_ms - reign.began_at_ms
        for reign in (*facts.past, *facts.history)
        if reign.established and reign.promoted and reign_kind(reign) == "switchover"
    ]
    return max(0, took[-1]) if took else None
