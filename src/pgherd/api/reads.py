"""Routes that only look: status, nodes, history, explanation, consensus, metrics.

Owns no meaning: that is in `views` and `stories`.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from pgherd.api import directives, leases, schema, stories, views, vips
from pgherd.api.deps import ConsistentDep, SeenDep, Services, ServicesDep, viewer
from pgherd.api.failures import Problem
from pgherd.api.probeschema import ProbeResult
from pgherd.api.times import iso
from pgherd.api.vipschema import Vips
from pgherd.config.fields import join_host_port
from pgherd.model.errors import PeerError, PostgresError
from pgherd.model.facts import Facts, Kind, Member

TRY_TIMEOUT_S = 2.0
HISTORY_LIMIT = 100
PROBES_MOST = 100
NodeName = Annotated[str, Path(max_length=64)]

router = APIRouter(dependencies=[Depends(viewer)])


@router.get("/api/v1/health")
async def daemon_health(services: ServicesDep, seen: SeenDep) -> schema.Health:
    """This daemon."""
    check = views.check(seen, proxy=services.herd.proxy(), version=services.version)
    report = seen.newest(seen.me)
    return schema.Health(
        status="ok" if check.status == "ok" else "degraded",
        uptime_seconds=report.uptime_seconds if report is not None else 0,
        version=services.version,
        node=seen.me,
        role=check.role,
        lease_seconds_left=leases.seconds_left(report),
    )


@router.get("/api/v1/cluster/status")
async def cluster_status(seen: ConsistentDep) -> schema.ClusterStatus:
    """The herd in one look."""
    return views.status(seen)


@router.get(
    "/api/v1/cluster/health",
    responses={503: {"model": schema.ClusterHealthAnswer | schema.Failure}},
)
async def cluster_health(seen: ConsistentDep, response: Response) -> schema.ClusterHealthAnswer:
    """Whether writes are possible: 503 when they are not."""
    answer = views.health(seen)
    response.status_code = 503 if answer.cluster_status == "down" else 200
    return answer


@router.get("/api/v1/nodes")
async def all_nodes(seen: ConsistentDep) -> schema.Nodes:
    """All members."""
    return views.nodes(seen)


@router.get("/api/v1/nodes/{node_id}")
async def one_node(node_id: NodeName, seen: ConsistentDep) -> schema.Node:
    """One member."""
    return views.node(seen, find(seen.facts, node_id))


@router.get("/api/v1/nodes/{node_id}/health")
async def node_health(
    services: ServicesDep,
    node_id: NodeName,
    seen: SeenDep,
    limit: Annotated[int, Query(ge=1, le=PROBES_MOST)] = PROBES_MOST,
) -> schema.NodeHealth:
    """Whether this daemon can open a connection to each port of a member, and its last probes."""
    member = find(seen.facts, node_id)
    tried = (try_channel(name, *where) for name, where in channels_of(member).items())
    (found, problem), channels = await asyncio.gather(
        probes(services, member, limit), asyncio.gather(*tried)
    )
    return schema.NodeHealth(
        node=member.node,
        tried_from=seen.me,
        is_reachable=all(channel.is_reachable for channel in channels),
        channels=channels,
        probes=found,
        probes_problem=problem,
    )


async def probes(services: Services, member: Member, limit: int) -> tuple[list[ProbeResult], str]:
    """The newest probes of a member's server, or why there are none."""
    if member.kind is not Kind.DATA:
        return [], ""
    try:
        told = await services.herd.probes(member.node, limit)
    except (PeerError, PostgresError) as error:
        return [], error.message
    return [
        ProbeResult(
            at=iso(one.at_ms) or "",
            verdict=one.verdict,
            took_ms=one.took_ms,
            failures=one.failures,
        )
        for one in told
    ], ""


def channels_of(member: Member) -> dict[str, tuple[str, int]]:
    """Every port of a member, by channel, without those it does not have."""
    address = member.address
    found = {
        "raft": address.raft(),
        "api": address.api(),
        "postgresql": address.postgres(),
        "proxy": address.proxy(),
        "proxy replica": address.proxy(replica=True),
    }
    return {name: where for name, where in found.items() if where[1]}


async def try_channel(name: str, host: str, port: int) -> schema.Channel:
    """Open a connection and close it again, or say why that did not work."""
    problem = ""
    try:
        async with asyncio.timeout(TRY_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
    except TimeoutError:
        problem = f"no answer in {TRY_TIMEOUT_S:g} s"
    except OSError as error:
        problem = error.strerror or str(error)
    return schema.Channel(
        channel=name,
        address=join_host_port(host, port),
        is_reachable=not problem,
        problem=problem,
    )


def find(facts: Facts, name: str) -> Member:
    member = views.find_member(facts, name)
    if member is None:
        known = ", ".join(sorted(facts.members))
        raise Problem(404, "unknown_node", f"{name} is no member", hint=f"the members: {known}")
    return member


@router.get("/api/v1/vip")
async def all_vips(seen: SeenDep) -> Vips:
    """Every address that moves, and who has it."""
    return Vips(vips=vips.shown(views.fresh_reports(seen)))


@router.get("/api/v1/history")
async def history(
    seen: SeenDep, limit: Annotated[int, Query(ge=1, le=500)] = HISTORY_LIMIT
) -> schema.History:
    """Every failover and switchover, and the newest notes."""
    return stories.history(seen.facts, limit=limit)


@router.get("/raft/state")
async def raft_state(seen: SeenDep) -> schema.RaftState:
    """Consensus on this node."""
    return stories.raft_state(seen)


@router.get("/raft/directives")
async def all_directives(
    seen: ConsistentDep,
    node: Annotated[str | None, Query(max_length=64)] = None,
    status: Annotated[directives.Status | None, Query()] = None,
) -> directives.Directives:
    """Plan steps of the last day, for one node or in one state when asked so, the newest first."""
    target = find(seen.facts, node).node if node is not None else None
    found = [
        one
        for one in directives.all_of(seen)
        if target in (None, one.target) and status in (None, one.status)
    ]
    return directives.Directives(directives=found, as_of=seen.raft.applied)


@router.get("/raft/directives/{directive_id}")
async def one_directive(
    directive_id: Annotated[str, Path(max_length=80)], seen: ConsistentDep
) -> directives.Directive:
    """How one step stands."""
    for one in directives.all_of(seen):
        if one.id == directive_id:
            return one
    text = f"there is no directive {directive_id}"
    raise Problem(404, "unknown_directive", text, hint="see them: GET /raft/directives")


@router.get("/raft/peers")
async def raft_peers(seen: SeenDep) -> schema.RaftPeers:
    """The members of consensus."""
    return stories.raft_peers(seen)
