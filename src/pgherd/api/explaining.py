"""Routes that say why: the primary, its last change, who could take over, and what if.

Owns how the parts come together. Each part's meaning is `candidacy`'s, `lastchange`'s, `whatif`'s.
Rehearsals are played aside (`aside`), as they can take tenths of a second.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from pgherd.api import candidacy, versions, views, whatif
from pgherd.api.deps import ConsistentDep, ServicesDep, viewer
from pgherd.api.explainschema import Candidacy, Explanation, NodeExplanation, WhatIf
from pgherd.api.failures import Problem
from pgherd.api.lastchange import last_change
from pgherd.api.reads import NodeName, find
from pgherd.api.views import Seen, primary_of
from pgherd.plan.standbycluster import no_primary

LOST_MOST = 32
"""More than a cluster has."""

Lost = Annotated[
    list[Annotated[str, Query(max_length=64)]] | None,
    Query(max_length=LOST_MOST, description="Nodes that are lost, all at once."),
]

router = APIRouter(dependencies=[Depends(viewer)])


@router.get("/api/v1/explain")
async def explain(
    services: ServicesDep,
    seen: ConsistentDep,
    if_lost: Lost = None,
    if_switchover: Annotated[bool, Query(description="What a switchover would do.")] = False,
    to: Annotated[str | None, Query(max_length=64, description="To this node.")] = None,
) -> Explanation:
    """Why the primary is the primary, how that came, who could take over, and what if."""
    asked = partial(what_if, seen, if_lost or [], planned=if_switchover, to=to)
    candidates, played = await services.aside.answer(lambda: (able(seen), asked()))
    member, herd = services.herd.explain()
    facts = seen.facts
    reign, leader = facts.reign(), primary_of(seen)
    why = no_primary(facts) or "there is no primary now"
    if leader is not None and reign is not None:
        why = f"{leader} leads epoch {reign.term} by rule {reign.rule}: {reign.reason}"
    return Explanation(
        node=seen.me,
        primary=leader,
        why_primary=why,
        phase=facts.phase.value,
        last_rule=facts.rule,
        last_reason=facts.reason,
        this_node=member,
        herd=herd,
        problems=[*views.problems(seen), *versions.mismatches(seen)],
        last_change=last_change(facts),
        candidates=candidates,
        what_if=played,
    )


def able(seen: Seen) -> list[Candidacy]:
    """Of each data member whether it could take over."""
    return [candidacy.candidacy(seen, one) for one in views.data_members(seen.facts)]


def what_if(seen: Seen, lost: list[str], *, planned: bool, to: str | None) -> WhatIf | None:
    """The answer to one question, if one was asked."""
    if lost and (planned or to is not None):
        text = "if_lost and if_switchover are two questions"
        raise Problem(422, "invalid", text, hint="ask one after the other")
    if to is not None and not planned:
        hint = f"?if_switchover=1&to={to}"
        raise Problem(422, "invalid", "to goes with if_switchover", hint=hint)
    if planned:
        return whatif.if_switched(seen, find(seen.facts, to) if to is not None else None)
    return whatif.if_lost(seen, [find(seen.facts, one) for one in lost]) if lost else None


@router.get("/api/v1/explain/{node_id}")
async def explain_node(
    node_id: NodeName, services: ServicesDep, seen: ConsistentDep, if_lost: Lost = None
) -> NodeExplanation:
    """Why a node can or cannot be made the primary now; and what if others were lost."""
    member = find(seen.facts, node_id)
    asked = partial(what_if, seen, if_lost or [], planned=False, to=None)
    own, played = await services.aside.answer(lambda: (candidacy.candidacy(seen, member), asked()))
    return NodeExplanation(
        **own.model_dump(),
        role=views.role_of(seen.facts, member),
        state=views.state_of(seen, member),
        if_lost=played,
        as_of=seen.raft.applied,
    )
