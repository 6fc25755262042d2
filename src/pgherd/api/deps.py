"""What routes ask for: the port, a view of now, the caller. Owns the wiring of FastAPI's Depends.

`Services` is made once by `build_app`; everything a route needs arrives through it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Query, Request

from pgherd.api.aside import Aside
from pgherd.api.failures import Problem
from pgherd.api.guard import (
    CHANGES_PER_MINUTE,
    Caller,
    Guard,
    Limiter,
    Role,
    client_address,
)
from pgherd.api.herd import Herd
from pgherd.api.views import ELECTION_MS, FRESH_MS, Seen
from pgherd.model.policy import Policy

if TYPE_CHECKING:
    from pgherd.api.localcluster import Run
    from pgherd.telemetry.metrics import Metrics

CONSISTENT_TIMEOUT_S = 5.0
SUBMIT_TIMEOUT_S = 10.0
JOINS_PER_MINUTE = 5


class Services:
    """What the routes stand on."""

    def __init__(
        self,
        herd: Herd,
        guard: Guard,
        *,
        version: str,
        policy: Callable[[], Policy] = Policy,
        election_ms: int = ELECTION_MS,
        ca_pem: Callable[[], bytes | None] = lambda: None,
        metrics: Metrics | None = None,
        local: Run | None = None,
        fresh_ms: int = FRESH_MS,
        clock: Callable[[], float] = time.monotonic,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        self.herd = herd
        self.guard = guard
        self.version = version
        self.policy = policy
        self.election_ms = election_ms
        self.ca_pem = ca_pem
        self.metrics = metrics
        self.local = local
        self.fresh_ms = fresh_ms
        self.clock = clock
        self.unix_s = unix_s
        self.joins = Limiter(most=JOINS_PER_MINUTE, window_s=60.0, clock=clock)
        self.changes = Limiter(most=CHANGES_PER_MINUTE, window_s=60.0, clock=clock)
        self.aside = Aside()
        self.streams = 0
        """How many follow the events."""

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
            policy=self.policy(),
            election_ms=self.election_ms,
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


async def changer(request: Request, services: Services, role: Role) -> Caller:
    """Who may change something.

    A token of the ledger may have been revoked where this node has not heard of it yet: the quorum
    is asked first. Those of the file count without a quorum.
    """
    services.changes.most = services.guard.access.changes_per_minute
    services.changes.check(client_address(request))
    caller = services.guard.admit(request, role=role)
    if not caller.is_kept:
        return caller
    if not await services.herd.consistent(timeout_s=CONSISTENT_TIMEOUT_S):
        text = "no quorum confirms that this token was not revoked"
        raise Problem(503, "no_quorum", text, hint="use a token of the node's file, or see: status")
    return services.guard.admit(request, role=role)


async def operator(request: Request, services: ServicesDep) -> Caller:
    return await changer(request, services, Role.OPERATOR)


async def admin(request: Request, services: ServicesDep) -> Caller:
    return await changer(request, services, Role.ADMIN)


async def operator_looks(request: Request, services: ServicesDep) -> Caller:
    """Who may read what not every viewer should."""
    return services.guard.admit(request, role=Role.OPERATOR)


async def admin_looks(request: Request, services: ServicesDep) -> Caller:
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
