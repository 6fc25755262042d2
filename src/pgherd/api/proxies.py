"""The proxies of all nodes in one answer, wherever it is asked for: sessions, held clients, pools.

Owns the route and the view. Each proxy is asked for by its own node's agent; one that is not heard
is not waited for.
"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Depends

from pgherd.api import pools
from pgherd.api.deps import SeenDep, Services, ServicesDep, viewer
from pgherd.api.herd import ProxySeen
from pgherd.api.poolschema import Pool
from pgherd.api.shape import Model, NodeName
from pgherd.api.views import Seen, members
from pgherd.model.errors import PeerError
from pgherd.model.facts import Member

router = APIRouter(dependencies=[Depends(viewer)])


class Proxy(Model):
    """One node's proxy. problem: why nothing is known of it, "" where something is.

    held: clients that wait for a primary now · moved: sessions that went on at another server, in
    all · by_backend, by_listener: sessions that are open now.
    """

    node: NodeName
    problem: str
    proxy_healthy: bool | None
    engine: str | None
    active_connections: int | None
    held: int | None
    moved: int | None
    by_backend: dict[str, int]
    by_listener: dict[str, int]
    pools: list[Pool]


class Proxies(Model):
    """Every node that has a way in for clients, by name."""

    proxies: list[Proxy]
    as_of: int


@router.get("/api/v1/proxies")
async def all_proxies(services: ServicesDep, seen: SeenDep) -> Proxies:
    """The proxy of every node: sessions, clients that are held, pools."""
    ways = [one for one in members(seen.facts) if has_proxy(one)]
    found = await asyncio.gather(*(proxy_of(services, seen, one) for one in ways))
    return Proxies(proxies=found, as_of=seen.raft.applied)


def has_proxy(member: Member) -> bool:
    """Whether clients can come in there."""
    return bool(member.address.proxy()[1] or member.address.proxy(replica=True)[1])


async def proxy_of(services: Services, seen: Seen, member: Member) -> Proxy:
    """What is known of one."""
    if seen.fresh(member.node) is None and member.node != seen.me:
        return shown(member, None, "its node does not report")
    try:
        found = await services.herd.own.node_proxy(member.node)
    except PeerError as error:
        return shown(member, None, error.message)
    return shown(member, found, "" if found is not None else "its proxy does not run")


def shown(member: Member, seen: ProxySeen | None, problem: str) -> Proxy:
    """In the public form."""
    if seen is None:
        return Proxy(
            node=member.node,
            problem=problem,
            proxy_healthy=None,
            engine=None,
            active_connections=None,
            held=None,
            moved=None,
            by_backend={},
            by_listener={},
            pools=[],
        )
    by_backend: dict[str, int] = {}
    for sessions in seen.sessions.values():
        for backend, number in sessions.items():
            by_backend[backend] = by_backend.get(backend, 0) + number
    by_listener = {label: sum(one.values()) for label, one in seen.sessions.items()}
    return Proxy(
        node=member.node,
        problem="",
        proxy_healthy=seen.healthy,
        engine=seen.engine or None,
        active_connections=sum(by_listener.values()),
        held=seen.held,
        moved=seen.moved,
        by_backend=by_backend,
        by_listener=by_listener,
        pools=pools.busiest(seen),
    )
