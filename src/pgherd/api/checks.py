"""Health checks for load balancers and supervisors, and the metrics: open to everybody.

Owns the status codes: 200 or 503, with a body that says why. GET, HEAD and OPTIONS answer alike.
Never limited, never asked for a token. What each asks for is `balancing`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from pgherd.api import balancing, distance, patroniviews, views
from pgherd.api.deps import Services, ServicesDep
from pgherd.api.failures import Problem
from pgherd.api.guard import Role
from pgherd.api.patronischema import PatroniNode
from pgherd.api.schema import Check
from pgherd.api.shape import Model
from pgherd.api.suffrage import spare_voters, suffrage_of
from pgherd.api.views import Seen

if TYPE_CHECKING:
    from pgherd.telemetry.metrics import Metrics

METHODS = ["GET", "HEAD", "OPTIONS"]
WISHED = ("/readiness",)
"""Checks that take wishes though they tell of this node alone."""

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Handler = TypeVar("Handler", bound=Callable[..., Any])

router = APIRouter()


class Asked:
    """One health check: what is known, and what is wished of a replica."""

    def __init__(self, services: Services, wish: balancing.Wish) -> None:
        self.services = services
        self.seen = services.seen()
        self.wish = wish

    def answer(self, *, is_good: bool) -> Response:
        """200 or 503, and this node in Patroni's words and ours."""
        services = self.services
        body = patroniviews.node(self.seen, proxy=services.herd.proxy(), version=services.version)
        return JSONResponse(body.document(), status_code=200 if is_good else 503)


async def asked_for(services: ServicesDep, request: Request) -> Asked:
    """What a request wishes of a replica."""
    return Asked(services, balancing.wish(request.query_params))


async def wishes(
    lag: Annotated[str | None, Query(description="At most so far behind: 16MB.")] = None,
    replication_state: Annotated[str | None, Query(description="As in Patroni.")] = None,
    mode: Annotated[str | None, Query(description="apply, or write: of what lag is.")] = None,
) -> None:
    """How the contract names them; any `tag_x` is one as well."""


AskedDep = Annotated[Asked, Depends(asked_for)]


class _Shown(NamedTuple):
    path: str
    handler: Callable[..., Any]
    shows: type[Model]


_checks: list[_Shown] = []


def check(path: str, shows: type[Model] = PatroniNode) -> Callable[[Handler], Handler]:
    """A route for GET, HEAD and OPTIONS, of which the contract shows the first."""

    def add(handler: Handler) -> Handler:
        router.api_route(path, methods=METHODS, include_in_schema=False)(handler)
        _checks.append(_Shown(path, handler, shows))
        return handler

    return add


def shown() -> list[BaseRoute]:
    """The routes as the contract shows them. Made when it is asked for: an agent that starts has no
    time for them."""
    made = APIRouter()
    for path, handler, shows in _checks:
        not_now: dict[int | str, dict[str, Any]] = {
            503: {"model": shows, "description": "Not this node, or not now."}
        }
        made.get(
            path,
            operation_id="check_" + (path.strip("/").replace("-", "_") or "root"),
            response_model=shows,
            responses=not_now,
            dependencies=[Depends(wishes)] if shows is PatroniNode or path in WISHED else [],
        )(handler)
    return made.routes


def older(path: str) -> Callable[[Handler], Handler]:
    """Another spelling, which the contract leaves out."""
    return router.api_route(path, methods=METHODS, include_in_schema=False)


@check("/")
@check("/primary")
@check("/read-write")
@older("/master")
async def primary(asked: AskedDep) -> Response:
    """200 where this node is the established primary, whatever else is asked for."""
    return asked.answer(is_good=balancing.leads(asked.seen))


@check("/leader")
async def leader(asked: AskedDep) -> Response:
    """200 on the primary, and on whoever leads a cluster that follows another one."""
    is_good = balancing.leads(asked.seen) or balancing.leads_standbys(asked.seen)
    return asked.answer(is_good=is_good)


@check("/standby-leader")
@older("/standby_leader")
async def standby_leader(asked: AskedDep) -> Response:
    """200 where this node leads a cluster that follows another one."""
    return asked.answer(is_good=balancing.leads_standbys(asked.seen))


@check("/replica")
async def replica(asked: AskedDep) -> Response:
    """200 where this node is a streaming replica that takes reads, and is as was asked for:
    `?lag=16MB`, `?replication_state=streaming`, `?tag_rack=a1`."""
    return asked.answer(is_good=balancing.is_replica(asked.seen, asked.wish))


@check("/read-only")
async def read_only(asked: AskedDep) -> Response:
    """200 where reads are served: the primary too."""
    return asked.answer(is_good=balancing.takes_reads(asked.seen, asked.wish))


@check("/sync")
@older("/synchronous")
async def sync(asked: AskedDep) -> Response:
    """200 on a replica that has every acknowledged commit."""
    return asked.answer(is_good=balancing.is_replica(asked.seen, asked.wish, "sync"))


@check("/read-only-sync")
@older("/read-only-synchronous")
async def read_only_sync(asked: AskedDep) -> Response:
    """200 on such a replica, and on the primary."""
    return asked.answer(is_good=balancing.takes_reads(asked.seen, asked.wish, "sync"))


@check("/quorum")
async def quorum(asked: AskedDep) -> Response:
    """200 on a replica that is one of those of whom some have every acknowledged commit."""
    return asked.answer(is_good=balancing.is_replica(asked.seen, asked.wish, "quorum"))


@check("/read-only-quorum")
async def read_only_quorum(asked: AskedDep) -> Response:
    """200 on such a replica, and on the primary."""
    return asked.answer(is_good=balancing.takes_reads(asked.seen, asked.wish, "quorum"))


@check("/async")
@older("/asynchronous")
async def asynchronous(asked: AskedDep) -> Response:
    """200 on a replica that no commit waits for."""
    return asked.answer(is_good=balancing.is_replica(asked.seen, asked.wish, "async"))


@check("/health", Check)
async def health(services: ServicesDep) -> Response:
    """200 where this node serves its role."""
    seen = services.seen()
    is_good = views.check_status(seen, services.herd.proxy()) == "ok"
    return answer(services, seen, is_good=is_good)


@check("/readiness", Check)
async def readiness(asked: AskedDep) -> Response:
    """200 where clients may be sent: PostgreSQL runs as primary or streams; a witness is heard.

    `?lag=16MB` within that lag of what is replayed, with `&mode=write` of what is received.
    """
    is_good = balancing.is_ready(asked.seen, asked.wish)
    return answer(asked.services, asked.seen, is_good=is_good)


@check("/liveness", Check)
async def liveness(services: ServicesDep) -> Response:
    """200 while the agent looks at its node: its own report is recent."""
    seen = services.seen()
    return answer(services, seen, is_good=seen.fresh(seen.me) is not None)


@router.get("/metrics")
async def metrics(services: ServicesDep, request: Request) -> Response:
    """Everything measured, for Prometheus; for viewers only where `api.protect_metrics` is set."""
    if services.guard.access.protect_metrics:
        services.guard.admit(request, role=Role.VIEWER)
    if services.metrics is None:
        raise Problem(404, "not_found", "this daemon measures nothing")
    return Response(rendered(services, services.metrics), media_type=METRICS_TYPE)


def rendered(services: Services, metrics: Metrics) -> bytes:
    """The metrics' own view of what is known now."""
    from pgherd.telemetry import metrics as told  # keeps prometheus_client out of the CLI

    seen, proxy = services.seen(), services.herd.proxy()
    raft = told.RaftSeen(
        term=seen.raft.term,
        state=seen.raft.role.value,
        commit_index=seen.raft.commit,
        applied_index=seen.raft.applied,
        has_quorum=views.has_quorum(seen),
        voters=len(views.raft_voters(seen)),
        spare_voters=spare_voters(seen),
        suffrage=Counter(suffrage_of(seen, one) for one in seen.facts.members.values()),
    )
    counts = None
    if proxy is not None:
        counts = told.ProxySeen(
            connections=flat(proxy.sessions),
            connections_total=flat(proxy.opened),
            errors_total=proxy.errors,
            held=proxy.held,
            moved_total=proxy.moved,
            engine=proxy.engine,
            bytes_total={
                "from_clients": proxy.bytes_from_clients,
                "from_servers": proxy.bytes_from_servers,
            },
            queries_total=flat(proxy.queries),
            routed_total=flat(proxy.routed),
            hold_counts=proxy.hold_counts,
            hold_s=proxy.held_ms / 1000,
            pools=proxy.pools,
        )
    fresh = {heard.report.node: heard.report for heard in views.fresh_heard(seen)}
    return metrics.render(
        facts=seen.facts,
        reports=fresh,
        raft=raft,
        proxy=counts,
        split_brain=views.split_brain(seen),
        replicas={
            member.node: told.ReplicaSeen(
                state=views.state_of(seen, member),
                lag_bytes=distance.lag_bytes(seen, member),
                lag_ms=distance.lag_ms(seen, member),
            )
            for member in views.data_members(seen.facts)
            if not seen.facts.is_leader(member.node)
        },
    )


def flat(counts: dict[str, dict[str, int]]) -> dict[tuple[str, str], int]:
    return {(first, second): n for first, inner in counts.items() for second, n in inner.items()}


def answer(services: Services, seen: Seen, *, is_good: bool) -> Response:
    body = views.check(seen, proxy=services.herd.proxy(), version=services.version)
    return JSONResponse(body.model_dump(), status_code=200 if is_good else 503)
