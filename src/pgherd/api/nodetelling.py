"""Routes for what a node is asked about itself: reload, vitals, log lines, level of the log.

Owns the form and the status codes. Every daemon takes every call and asks the node that is meant.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from pgherd.api import nodeschema as schema
from pgherd.api.deps import OperatorDep, Services, ServicesDep, operator_looks, viewer
from pgherd.api.failures import Problem
from pgherd.api.reads import NodeName, find
from pgherd.config.units import parse_duration_ms
from pgherd.model import nodelog
from pgherd.model.errors import PeerError
from pgherd.model.ids import NodeId
from pgherd.model.nodelog import LevelNow, LevelWish, LogAsked, Source
from pgherd.model.reloaded import Reloaded
from pgherd.model.vitals import Vitals

CURSOR_LETTERS_MAX = 64
LEVEL_MS_MAX = 7 * 86_400_000

router = APIRouter()


@router.post("/api/v1/config/reload")
async def reload_here(services: ServicesDep, caller: OperatorDep) -> schema.Reloaded:
    """Have this daemon read its file again: 422 for one with mistakes, which changes nothing."""
    return await reloaded(services, services.herd.node, str(caller))


@router.post("/reload", operation_id="reload_bare", responses={202: {"model": schema.Reloaded}})
async def reload_bare(
    services: ServicesDep, caller: OperatorDep, response: Response
) -> schema.Reloaded:
    """The same, as Patroni's clients expect it: 202 where something changed, else 200."""
    found = await reloaded(services, services.herd.node, str(caller))
    response.status_code = 202 if found.changes_detected else 200
    return found


@router.post("/api/v1/nodes/{node_id}/config/reload")
async def reload_there(
    node_id: NodeName, services: ServicesDep, caller: OperatorDep
) -> schema.Reloaded:
    """Have a node's daemon read its file again."""
    return await reloaded(services, meant(services, node_id), str(caller))


async def reloaded(services: Services, node: NodeId, who: str) -> schema.Reloaded:
    try:
        found = await services.herd.own.reload_config(node, who)
    except PeerError as error:
        raise silent(node, error) from error
    mistakes = [
        schema.Mistake(place=one.place, key=one.key, message=one.message, hint=one.hint)
        for one in found.rejected
    ]
    if found.status == "rejected":
        raise rejected(node, found, mistakes)
    return schema.Reloaded(
        node=node,
        status="partly" if mistakes else "reloaded",
        changes_detected=found.changes_detected,
        applied=list(found.applied),
        needs_restart=list(found.needs_restart),
        rejected=mistakes,
        pending_parameters=list(found.pending_parameters),
    )


def rejected(node: NodeId, found: Reloaded, mistakes: list[schema.Mistake]) -> Problem:
    """A file with mistakes: every one of them with its line."""
    told = [f"{one.place}: {one.key}: {one.message}".replace(": : ", ": ") for one in mistakes]
    return Problem(
        422,
        "invalid_configuration",
        f"{node} keeps the settings in force: {'; '.join(told)}",
        hint="mend the file, then: pgherd config validate; pgherd reload",
        details={
            "node": node,
            "changes_detected": found.changes_detected,
            "applied": [],
            "needs_restart": [],
            "rejected": [one.model_dump() for one in mistakes],
        },
    )


@router.get("/api/v1/nodes/{node_id}/vitals", dependencies=[Depends(viewer)])
async def vitals(node_id: NodeName, services: ServicesDep) -> schema.NodeVitals:
    """Memory of a node, and whom it reaches by which channel."""
    node = meant(services, node_id)
    try:
        return shown(node, await services.herd.own.node_vitals(node))
    except PeerError as error:
        raise silent(node, error) from error


def shown(node: NodeId, found: Vitals) -> schema.NodeVitals:
    memory = found.memory
    return schema.NodeVitals(
        node=node,
        memory=schema.Memory(
            size_bytes=memory.size_bytes,
            available_bytes=memory.available_bytes,
            swap_size_bytes=memory.swap_size_bytes,
            swap_used_bytes=memory.swap_used_bytes,
            oom_kills_last_hour=found.oom_kills,
        )
        if memory is not None
        else None,
        process_bytes=found.process_bytes,
        peers=[
            schema.PeerVitals(
                node=one.node,
                channel=one.channel,  # type: ignore[arg-type] # of `daemon.vitals.channels`
                is_up=one.is_up,
                rtt_ms=round(one.rtt_ms, 3) if one.rtt_ms >= 0 else None,
                failures=one.failures,
                problem=one.problem,
            )
            for one in found.peers
        ],
    )


@router.get("/api/v1/nodes/{node_id}/logs", dependencies=[Depends(viewer)])
async def node_logs(
    node_id: NodeName,
    services: ServicesDep,
    request: Request,
    source: Source = Source.AGENT,
    lines: Annotated[int, Query(ge=1, le=nodelog.LINES_MAX)] = 100,
    cursor: Annotated[str, Query(max_length=CURSOR_LETTERS_MAX)] = "",
) -> schema.NodeLogs:
    """The newest log lines of a node, or those after a cursor; PostgreSQL's need an operator, for
    statements stand in them. Secrets are taken out."""
    if source is Source.POSTGRES:
        await operator_looks(request, services)
    node = meant(services, node_id)
    asked = LogAsked(source=source, lines=lines, cursor=cursor)
    try:
        found = await services.herd.own.node_logs(node, asked)
    except PeerError as error:
        raise silent(node, error) from error
    return schema.NodeLogs(
        node=node,
        source=source.value,
        lines=list(found.lines),
        cursor=found.cursor,
        skipped=found.skipped,
    )


@router.get("/api/v1/nodes/{node_id}/log-level", dependencies=[Depends(viewer)])
async def log_level(node_id: NodeName, services: ServicesDep) -> schema.LogLevel:
    """From which level on a node tells."""
    return await level_of(services, meant(services, node_id), LevelWish(""))


@router.put("/api/v1/nodes/{node_id}/log-level")
async def set_log_level(
    node_id: NodeName, services: ServicesDep, caller: OperatorDep, body: schema.LogLevelWish
) -> schema.LogLevel:
    """Have a node tell from this level on, for a while or until its next reload."""
    wish = LevelWish(body.level, for_ms=duration(body.duration), requested_by=str(caller))
    return await level_of(services, meant(services, node_id), wish)


def duration(text: str | None) -> int:
    if text is None:
        return 0
    try:
        for_ms = parse_duration_ms(text)
    except ValueError as error:
        raise Problem(422, "invalid", f"for: {error}", hint="as in 10m") from error
    if not 0 < for_ms <= LEVEL_MS_MAX:
        raise Problem(422, "invalid", f"for: {text} is not from 1ms to 7d", hint="as in 10m")
    return for_ms


async def level_of(services: Services, node: NodeId, wish: LevelWish) -> schema.LogLevel:
    try:
        now: LevelNow = await services.herd.own.log_level(node, wish)
    except PeerError as error:
        raise silent(node, error) from error
    return schema.LogLevel.model_validate(
        {
            "node": node,
            "level": now.level,
            "configured": now.configured,
            "seconds_left": now.left_ms / 1000 if now.left_ms else None,
        }
    )


def meant(services: Services, name: str) -> NodeId:
    """The member that is named; this daemon's own name is understood before it is one."""
    own = services.herd.node
    return own if name == own else find(services.herd.facts(), name).node


def silent(node: NodeId, error: PeerError) -> Problem:
    """That node was not reached, or could not do it."""
    return Problem(503, "unreachable", f"{node}: {error}", hint="pgherd status")
