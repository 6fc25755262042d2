"""Routes that only look: status, nodes, history, explanation, consensus, metrics.

Owns no meaning: that is in `views` and `stories`.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from pgherd.api import leases, schema, stories, views, vips
from pgherd.api.deps import ConsistentDep, SeenDep, ServicesDep, viewer
from pgherd.api.failures import Problem
from pgherd.api.vipschema import Vips
from pgherd.config.fields import join_host_port
from pgherd.model.facts import Facts, Member

TRY_TIMEOUT_S = 2.0
HISTORY_LIMIT = 100
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


@router.get("/api/v1/cluster/health")
async def cluster_health(seen: SeenDep, response: Response) -> schema.ClusterHealthAnswer:
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
async def node_health(node_id: NodeName, seen: SeenDep) -> schema.NodeHealth:
    """Whether this daemon can open a connection to each port of a member."""
    member = find(seen.facts, node_id)
    channels = await asyncio.gather(
        *(try_channel(name, *where) for name, where in views.channels_of(member).items())
    )
    return schema.NodeHealth(
        node=member.node,
        tried_from=seen.me,
        is_reachable=all(channel.is_reachable for channel in channels),
        channels=list(channels),
    )


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


@router.get("/api/v1/explain")
async def explain(services: ServicesDep, seen: SeenDep) -> schema.Explanation:
    """Why the primary is the primary, and what was decided last."""
    member, herd = services.herd.explain()
    return stories.explanation(seen, member=member, herd=herd)


@router.get("/raft/state")
async def raft_state(seen: SeenDep) -> schema.RaftState:
    """Consensus on this node."""
    return stories.raft_state(seen)


@router.get("/raft/peers")
async def raft_peers(seen: SeenDep) -> schema.RaftPeers:
    """The members of consensus."""
    return stories.raft_peers(seen)
