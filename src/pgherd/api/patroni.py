"""Patroni's paths that only look: `/patroni`, `/cluster`, `/history`, `/config`, `/failsafe`.

Tools that were written for Patroni carry no token, so these are open as they are there; lines of
pg_hba.conf and pg_ident.conf are for viewers. Owns no meaning: that is in `patroniviews`.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from pgherd.api import patronischema as schema
from pgherd.api import patroniviews as views
from pgherd.api.deps import ConsistentDep, SeenDep, ServicesDep

router = APIRouter()


@router.get("/patroni", response_model=schema.PatroniNode)
async def this_node(services: ServicesDep, seen: SeenDep) -> JSONResponse:
    """This node as Patroni's monitoring endpoint shows one; always 200."""
    shown = views.node(seen, proxy=services.herd.proxy(), version=services.version)
    return JSONResponse(shown.document())


@router.get("/cluster", response_model_exclude_none=True)
async def cluster(
    services: ServicesDep, seen: ConsistentDep, request: Request
) -> schema.PatroniCluster:
    """The members as Patroni's clients expect them, with where clients are led beside."""
    return views.cluster(seen, proxy=services.herd.proxy(), scheme=request.url.scheme)


@router.get("/history")
async def history(seen: SeenDep) -> list[list[int | str]]:
    """Every timeline that ended: which, where, why, when, and who led from there."""
    return views.history(seen.facts)


@router.get("/config", response_model_exclude_none=True)
async def config(
    services: ServicesDep, seen: ConsistentDep, request: Request
) -> schema.PatroniConfig:
    """What the cluster agreed on, as Patroni's dynamic configuration; who may log in to PostgreSQL
    is shown to viewers only."""
    return views.config(seen.facts, shows_access=services.guard.may_look(request))


@router.get("/failsafe")
async def failsafe(seen: SeenDep, request: Request) -> dict[str, str]:
    """Every data member and where it answers, as Patroni's failsafe mode lists them."""
    return views.failsafe(seen.facts, scheme=request.url.scheme)


@router.api_route("/patroni", methods=["HEAD", "OPTIONS"], include_in_schema=False)
@router.api_route("/cluster", methods=["HEAD", "OPTIONS"], include_in_schema=False)
@router.api_route("/history", methods=["HEAD", "OPTIONS"], include_in_schema=False)
@router.api_route("/config", methods=["HEAD", "OPTIONS"], include_in_schema=False)
@router.api_route("/failsafe", methods=["HEAD", "OPTIONS"], include_in_schema=False)
async def is_there() -> Response:
    """200 without a body, for whoever only asks whether this node answers."""
    return Response()
