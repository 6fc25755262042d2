"""Routes of `pgherd doctor`: every node gathers its facts, one table says what they mean.

Owns the asking of all members beside each other, and what the herd's own checks are given: the
views and the deciders' words, as this node knows them. A member that does not answer is told, and
its checks are unknown.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query

from pgherd.api import candidacy, distance, doctorschema, promising, views, whatif
from pgherd.api.deps import ConsistentDep, Services, ServicesDep, operator_looks, viewer
from pgherd.api.nodetelling import meant, silent
from pgherd.api.reads import NodeName, find
from pgherd.api.views import Seen
from pgherd.model.checkup import Finding, HerdFacts, NodeFacts
from pgherd.model.errors import PeerError, PgherdError
from pgherd.model.facts import Kind
from pgherd.model.ids import NodeId
from pgherd.plan.doctor import checks
from pgherd.plan.doctor.checks import BY_ID

LAG_MAX_BYTES = 16 << 20
"""Of a replica whose primary's own limit is not known."""

router = APIRouter(dependencies=[Depends(viewer)])


@router.get("/api/v1/doctor")
async def doctor(
    services: ServicesDep,
    seen: ConsistentDep,
    node: Annotated[str | None, Query(max_length=64, description="Of this node only.")] = None,
    quick: Annotated[bool, Query(description="Without what takes time.")] = False,
) -> doctorschema.Checkup:
    """The checks of `pgherd doctor`: of one node, or of all and of the herd."""
    only = None if node is None else seen.me if node == seen.me else find(seen.facts, node).node
    asked = [only] if only is not None else sorted({seen.me, *seen.facts.members})
    found, missing = await gather(services, asked, quick=quick)
    now = services.seen()

    def judged() -> list[Finding]:
        known = herd_facts(now, found, missing)
        return checks.of_member(known, only) if only is not None else checks.whole(known)

    told = await services.aside.answer(judged)
    return doctorschema.Checkup(
        asked=seen.me,
        quick=quick,
        counts=doctorschema.Counts(**checks.counts(told)),
        findings=[shown(one) for one in told],
        unreached={str(name): why for name, why in missing.items()},
        as_of=seen.raft.applied,
    )


@router.get("/api/v1/nodes/{node_id}/checkup", dependencies=[Depends(operator_looks)])
async def checkup(
    node_id: NodeName,
    services: ServicesDep,
    quick: Annotated[bool, Query(description="Without what takes time.")] = False,
) -> doctorschema.CheckupFacts:
    """What the checks of one node look at: its kernel, disks, ports, PostgreSQL's settings."""
    node = meant(services, node_id)
    try:
        facts = await services.herd.own.node_checkup(node, quick)
    except PeerError as error:
        raise silent(node, error) from error
    return doctorschema.CheckupFacts(node=node, facts=msgspec.to_builtins(facts))


def shown(one: Finding) -> doctorschema.Finding:
    return doctorschema.Finding(
        check=one.check,
        node=one.node,
        status=one.status.value,
        text=one.text,
        means=BY_ID[one.check].means,
        fix=one.fix,
    )


async def gather(
    services: Services, nodes: list[NodeId], *, quick: bool
) -> tuple[dict[NodeId, NodeFacts], dict[NodeId, str]]:
    """What each of these says of itself, and why others said nothing."""

    async def one(node: NodeId) -> NodeFacts | str:
        try:
            return await services.herd.own.node_checkup(node, quick)
        except PgherdError as error:
            return error.message

    answers = dict(zip(nodes, await asyncio.gather(*map(one, nodes)), strict=True))
    found = {n: a for n, a in answers.items() if isinstance(a, NodeFacts)}
    return found, {n: a for n, a in answers.items() if isinstance(a, str)}


def herd_facts(seen: Seen, nodes: dict[NodeId, NodeFacts], missing: dict[NodeId, str]) -> HerdFacts:
    """What is known of all together."""
    facts, primary = seen.facts, views.primary_of(seen)
    reports = {n: r for n in facts.members if (r := seen.fresh(n)) is not None}
    others = [m for m in views.data_members(facts) if m.node != primary]
    lost = facts.members.get(primary) if primary is not None else None
    after = whatif.if_lost(seen, [lost]) if lost is not None else None
    own = nodes.get(primary) if primary is not None else None
    return HerdFacts(
        facts=facts,
        reports=reports,
        nodes=nodes,
        missing=missing,
        unix_ms=seen.unix_ms,
        has_quorum=views.has_quorum(seen),
        can_write=views.can_write(seen),
        primary=primary,
        voters=tuple(NodeId(name) for name in views.raft_voters(seen)),
        states={m.node: views.state_of(seen, m) for m in views.members(facts)},
        unwell=tuple(m.node for m in views.members(facts) if not views.is_healthy(seen, m)),
        lag_bytes={m.node: distance.lag_bytes(seen, m) for m in others},
        unfit={m.node: candidacy.not_by_election(seen, m) for m in others if m.kind is Kind.DATA},
        without_primary=after.why if after is not None else "",
        has_successor=after is not None and after.new_primary is not None,
        degraded=promising.shown(facts).degraded,
        noticed=tuple(one.sentence(None) for one in seen.noticed),
        max_lag_bytes=own.told.max_lag_bytes if own and own.told else LAG_MAX_BYTES,
    )
