"""The pools of this node's proxy, for people and programs. Owns the route and the view."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Depends

from pgherd.api import poolschema as schema
from pgherd.api.deps import SeenDep, ServicesDep, viewer
from pgherd.api.herd import ProxySeen
from pgherd.api.views import Seen
from pgherd.route.poolreport import PoolReport

router = APIRouter(dependencies=[Depends(viewer)])


@router.get("/api/v1/proxy/pools")
async def proxy_pools(services: ServicesDep, seen: SeenDep) -> schema.Pools:
    """Server connections that this node's proxy lends by the transaction, and who waits for one."""
    return shown(seen, services.herd.proxy())


def shown(seen: Seen, proxy: ProxySeen | None) -> schema.Pools:
    """Every pool in use, the busiest first."""
    return schema.Pools(
        node=seen.me,
        proxy_healthy=proxy.healthy if proxy is not None else None,
        routed=proxy.routed if proxy is not None else {},
        pools=busiest(proxy) if proxy is not None else [],
    )


def busiest(proxy: ProxySeen) -> list[schema.Pool]:
    """One proxy's pools, who waits first."""
    found = [one(pool) for pool in (proxy.pools.pools if proxy.pools is not None else ())]
    return sorted(found, key=lambda pool: (-pool.clients_waiting, -pool.servers_active))


def one(pool: PoolReport) -> schema.Pool:
    """One of them."""
    return schema.Pool(
        database=pool.database,
        user=pool.user,
        server=pool.server,
        pools=pool.pools,
        size=pool.size,
        reserve=pool.reserve,
        **msgspec.structs.asdict(pool.seen),
    )
