"""Health checks for load balancers and supervisors, and the metrics: open to everybody.

Owns the status codes: 200 or 503, with a short body that says why. GET, HEAD and OPTIONS answer
alike. Never limited, never asked for a token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from pgherd.api import distance, views
from pgherd.api.deps import Services, ServicesDep
from pgherd.api.failures import Problem
from pgherd.api.suffrage import spare_voters
from pgherd.api.views import Seen
from pgherd.config.units import parse_size_bytes

if TYPE_CHECKING:
    from pgherd.telemetry.metrics import Metrics

METHODS = ["GET", "HEAD", "OPTIONS"]
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Handler = TypeVar("Handler", bound=Callable[..., Any])

router = APIRouter()


def check(path: str) -> Callable[[Handler], Handler]:
    """A route for GET, HEAD and OPTIONS, of which the contract shows the first."""
    name = "check_" + path.strip("/").replace("-", "_")

    def add(handler: Handler) -> Handler:
        router.api_route(path, methods=METHODS, include_in_schema=False)(handler)
        router.get(path, operation_id=name)(handler)  # never reached, only shown
        return handler

    return add


@check("/primary")
@check("/leader")
@check("/read-write")
async def primary(services: ServicesDep) -> Response:
    """200 where this node is the established primary."""
    seen = services.seen()
    return answer(services, seen, is_good=views.is_primary(seen, seen.me))


@check("/replica")
async def replica(services: ServicesDep, request: Request) -> Response:
    """200 where this node is a streaming replica that takes reads, with `?lag=16MB` within that
    lag."""
    seen = services.seen()
    return answer(services, seen, is_good=takes_reads(seen, lag_bytes_max=lag_of(request)))


@check("/read-only")
async def read_only(services: ServicesDep, request: Request) -> Response:
    """200 where reads are served: the primary too."""
    seen, lag = services.seen(), lag_of(request)
    serves = views.is_primary(seen, seen.me) or takes_reads(seen, lag_bytes_max=lag)
    return answer(services, seen, is_good=serves)


@check("/health")
async def health(services: ServicesDep) -> Response:
    """200 where this node serves its role."""
    seen = services.seen()
    is_good = views.check_status(seen, services.herd.proxy()) == "ok"
    return answer(services, seen, is_good=is_good)


@check("/readiness")
async def readiness(services: ServicesDep, request: Request) -> Response:
    """200 where clients may be sent: PostgreSQL runs as primary or streams; a witness is heard."""
    seen, lag = services.seen(), lag_of(request)
    member = seen.facts.members.get(seen.me)
    is_good = member is not None and views.is_healthy(seen, member)
    if is_good and lag is not None and not views.is_primary(seen, seen.me):
        is_good = views.serves_reads(seen, lag_bytes_max=lag)
    return answer(services, seen, is_good=is_good)


@check("/liveness")
async def liveness(services: ServicesDep) -> Response:
    """200 while the agent looks at its node: its own report is recent."""
    seen = services.seen()
    return answer(services, seen, is_good=seen.fresh(seen.me) is not None)


@router.get("/metrics")
async def metrics(services: ServicesDep) -> Response:
    """Everything measured, for Prometheus."""
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


def takes_reads(seen: Seen, *, lag_bytes_max: int | None) -> bool:
    """Whether clients may be sent to this replica, its operator's wish included."""
    report = seen.fresh(seen.me)
    wanted = report is not None and not report.noloadbalance
    return wanted and views.serves_reads(seen, lag_bytes_max=lag_bytes_max)


def lag_of(request: Request) -> int | None:
    """`?lag=` in bytes or with a unit."""
    text = request.query_params.get("lag")
    if text is None:
        return None
    try:
        return int(text) if text.isdigit() else parse_size_bytes(text)
    except ValueError as error:
        raise Problem(400, "bad_request", f"lag: {error}", hint="write ?lag=16MB") from error
