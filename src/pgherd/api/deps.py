"""What routes ask for: the port, a view of now, the caller. Owns the wiring of FastAPI's Depends.

`Services` is made once by `build_app`; everything a route needs arrives through it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Query, Request

from pgherd.api.failures import Problem
from pgherd.api.guard import Caller, Guard, Limiter, Role, client_address
from pgherd.api.herd import Herd
from pgherd.api.views import FRESH_MS, Seen

if TYPE_CHECKING:
    from pgherd.telemetry.metrics import Metrics

CONSISTENT_TIMEOUT_S = 5.0
SUBMIT_TIMEOUT_S = 10.0
JOINS_PER_MINUTE = 5
CHANGES_PER_MINUTE = 100


class Services:
    """What the routes stand on."""

    def __init__(
        self,
        herd: Herd,
        guard: Guard,
        *,
        version: str,
        failover_enabled: Callable[[], bool] = lambda: True,
        ca_pem: Callable[[], bytes | None] = lambda: None,
        metrics: Metrics | None = None,
        fresh_ms: int = FRESH_MS,
        clock: Callable[[], float] = time.monotonic,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        self.herd = herd
        self.guard = guard
        self.version = version
        self.failover_enabled = failover_enabled
        self.ca_pem = ca_pem
        self.metrics = metrics
        self.fresh_ms = fresh_ms
        self.clock = clock
        self.unix_s = unix_s
        self.joins = Limiter(most=JOINS_PER_MINUTE, window_s=60.0, clock=clock)
        self.changes = Limiter(most=CHANGES_PER_MINUTE, window_s=60.0, clock=clock)

    def seen(self) -> Seen:
        """Everything that this node knows now."""
        return Seen(
            me=self.herd.node,
            facts=self.herd.facts(),
            reports=self.herd.reports(),
            noticed=self.herd.noticed(),
            now=self.herd.now(),
            raft=self.herd.raft(),
            unix_ms=int(self.unix_s() * 1000),
            failover_enabled=self.failover_enabled(),
            fresh_ms=self.fresh_ms,
            trail=self.herd.trail(),
        )


async def services(request: Request) -> Services:
    found = request.app.state.services
    assert isinstance(found, Services)
    return found


ServicesDep = Annotated[Services, Depends(services)]


async def viewer(request: Request, services: ServicesDep) -> Caller:
    return services.guard.admit(request, role=Role.VIEWER)


async def operator(request: Request, services: ServicesDep) -> Caller:
    services.changes.check(client_address(request))
    return services.guard.admit(request, role=Role.OPERATOR)


async def admin(request: Request, services: ServicesDep) -> Caller:
    services.changes.check(client_address(request))
    return services.guard.admit(request, role=Role.ADMIN)


async def seen(services: ServicesDep) -> Seen:
    return services.seen()


async def seen_consistently(
    services: ServicesDep,
    consistent: Annotated[bool, Query(description="Ask through a quorum first.")] = False,
) -> Seen:
    """What this node knows, after the quorum confirmed it when that was asked for."""
    if consistent and not await services.herd.consistent(timeout_s=CONSISTENT_TIMEOUT_S):
        raise Problem(
            503,
            "no_quorum",
            "the quorum did not confirm what this node knows",
            hint="ask without consistent=1 for what this node knows by itself",
        )
    return services.seen()


SeenDep = Annotated[Seen, Depends(seen)]
ConsistentDep = Annotated[Seen, Depends(seen_consistently)]
OperatorDep = Annotated[Caller, Depends(operator)]
AdminDep = Annotated[Caller, Depends(admin)]
