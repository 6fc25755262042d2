"""Patroni's paths that change something, with its bodies and status codes.

Owns the translation: each is a call of our own under another name (docs/operate/patroni-api.md).
`/restart` and `/reinitialize` are about the node that is asked, as in Patroni.
"""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from starlette.responses import JSONResponse, PlainTextResponse

from pgherd.api import changes, configuring, patroniconfig, patroniviews, replication, upkeep, views
from pgherd.api import patronischema as schema
from pgherd.api import schema as ours
from pgherd.api import slots as slotcalls
from pgherd.api import upkeepschema as work
from pgherd.api.changes import POLL_S, WAIT_S, current_facts
from pgherd.api.deps import AdminDep, OperatorDep, Services, ServicesDep
from pgherd.api.failures import Problem
from pgherd.api.guard import Caller
from pgherd.api.patroniasked import (
    ReinitAsked,
    RestartAsked,
    SwitchoverAsked,
    TextRoute,
    body_of,
    described,
    read_json,
    refuse,
)
from pgherd.api.upkeep import Order
from pgherd.config.units import parse_duration_ms
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId
from pgherd.model.upkeep import Verb, Work, WorkState

ROLES = ("primary", "replica", "standby_leader", "any")
TEXT: dict[str, Any] = {"content": {"text/plain": {}}}
DONE: dict[int | str, dict[str, Any]] = {200: {"description": "Done.", **TEXT}}
LATER: dict[int | str, dict[str, Any]] = {202: {"description": "Scheduled.", **TEXT}}

router = APIRouter(route_class=TextRoute, default_response_class=PlainTextResponse)

SwitchoverBody = Annotated[SwitchoverAsked, Depends(body_of(SwitchoverAsked))]
RestartBody = Annotated[RestartAsked, Depends(body_of(RestartAsked, optional=True))]
ReinitBody = Annotated[ReinitAsked, Depends(body_of(ReinitAsked, optional=True))]


# --- who leads -----------------------------------------------------------------------------------


@router.post(
    "/switchover",
    operation_id="patroni_switchover",
    openapi_extra=described(SwitchoverAsked),
    responses={**DONE, **LATER},
)
async def switchover(services: ServicesDep, caller: OperatorDep, body: SwitchoverBody) -> Response:
    """Change the primary as planned, now or at a time; whose it is to take must be named."""
    if body.leader is None:
        raise refuse(400, "a switchover is from the leader: name it", hint='{"leader": "n1"}')
    return await switch(services, caller, body)


@router.post(
    "/failover",
    operation_id="patroni_failover",
    openapi_extra=described(SwitchoverAsked),
    responses=DONE,
)
async def failover(services: ServicesDep, caller: OperatorDep, body: SwitchoverBody) -> Response:
    """Make a member the primary: by a switchover while the primary is well, else by an election."""
    if body.candidate is None:
        raise refuse(400, "a failover is to a candidate: name it", hint='{"candidate": "n2"}')
    if body.scheduled_at is not None and body.leader is None:
        raise refuse(400, "a failover is not for later: schedule a switchover")
    if body.leader is not None:
        return await switch(services, caller, body)
    named_candidate(await current_facts(services), body)
    seen, response = services.seen(), Response()
    if views.can_write(seen) and seen.facts.leader is not None:
        wish = ours.SwitchoverRequest(candidate=body.candidate)
        done = await changes.switchover(services, caller, response, wish, WAIT_S)
    else:
        order = ours.FailoverRequest(candidate=body.candidate)
        done = await changes.failover(services, caller, response, order, WAIT_S)
    return PlainTextResponse(f'Successfully failed over to "{done.new_primary}"')


async def switch(services: Services, caller: Caller, body: SwitchoverAsked) -> Response:
    """A switchover from the named leader."""
    facts = await current_facts(services)
    leader = leader_of(facts)
    if body.leader == body.candidate:
        raise refuse(400, f"{body.leader} cannot hand over to itself")
    if body.leader != leader:
        raise refuse(412, f"{body.leader} is not the leader, {leader or 'nobody'} is")
    named_candidate(facts, body)
    if body.scheduled_at is not None:
        with_zone(body.scheduled_at)
    wish = ours.SwitchoverRequest(candidate=body.candidate, scheduled_at=body.scheduled_at)
    done = await changes.switchover(services, caller, Response(), wish, WAIT_S)
    if done.status == "scheduled":
        return PlainTextResponse("Switchover scheduled", status_code=202)
    to = done.new_primary or leader_of(services.herd.facts())
    return PlainTextResponse(f'Successfully switched over to "{to}"')


def leader_of(facts: Facts) -> NodeId | None:
    """Whom Patroni calls the leader: of a standby cluster, who streams from the remote."""
    if facts.follows is not None:
        return facts.follows.leader
    return facts.leader.node if facts.leader is not None else None


def named_candidate(facts: Facts, body: SwitchoverAsked) -> None:
    if body.candidate is not None and views.find_member(facts, body.candidate) is None:
        raise refuse(412, f"{body.candidate} is no member")


def with_zone(text: str) -> None:
    """Patroni's clients tell a time without a zone from one that is none by the status code."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return  # told by whoever reads it
    if moment.tzinfo is None:
        raise refuse(400, f"{text} has no time zone", hint="as in 2026-01-31T23:00+00:00")


@router.delete("/switchover", operation_id="patroni_cancel_switchover", responses=DONE)
async def cancel_switchover(services: ServicesDep, caller: OperatorDep) -> Response:
    """Take a scheduled switchover back."""
    facts = await current_facts(services)
    found = [one for one in facts.upkeep.scheduled() if one.verb is Verb.SWITCHOVER]
    if not found:
        raise Problem(404, "unknown_action", "no switchover is scheduled")
    await upkeep.cancelled(services, found[0].id, str(caller))
    return PlainTextResponse("scheduled switchover deleted")


# --- this node's server --------------------------------------------------------------------------


@router.post(
    "/restart",
    operation_id="patroni_restart",
    openapi_extra=described(RestartAsked, required=False),
    responses={**DONE, **LATER},
)
async def restart(services: ServicesDep, caller: OperatorDep, body: RestartBody) -> Response:
    """Restart PostgreSQL of this node if it meets the conditions, now or at a time."""
    wait_s = seconds(body.timeout)
    if body.role is not None and body.role not in ROLES:
        raise refuse(400, f"no role is called {body.role}", hint=" or ".join(ROLES))
    if body.schedule is not None and (body.role not in (None, "any") or body.postgres_version):
        raise refuse(400, "role and postgres_version are not kept for later", hint="leave them out")
    wanted = number_of(body.postgres_version)
    if body.schedule is not None:
        with_zone(body.schedule)
    await current_facts(services)
    if body.schedule is None:
        meets(services, body, wanted)
    asked = work.RestartRequest(
        nodes=[services.herd.node],
        at=body.schedule,
        pending=body.restart_pending and body.schedule is not None,
    )
    made = await upkeep.ask_for(
        services, Verb.RESTART, upkeep.nodes_of(services.seen(), asked), asked, caller=str(caller)
    )
    if body.schedule is not None:
        return PlainTextResponse("Restart scheduled", status_code=202)
    return told(await ended(services, made.id, wait_s))


def seconds(timeout: int | str | None) -> float:
    """How long to wait."""
    if timeout is None:
        return WAIT_S
    try:
        text = str(timeout)
        found = int(text) * 1000 if text.isdigit() else parse_duration_ms(text)
    except ValueError as error:
        raise refuse(400, f"{timeout} is no duration", hint="as in 30s") from error
    if not 0 < found <= changes.WAIT_S_MAX * 1000:
        raise refuse(400, f"a restart is waited for 1 to {changes.WAIT_S_MAX:g} s")
    return found / 1000


def number_of(version: str | None) -> int:
    """PostgreSQL's number of a version as people write it: 15.2 is 150002."""
    if version is None:
        return 0
    found = re.fullmatch(r"(\d{2})(?:\.(\d{1,2}))?", version)
    if found is None:
        raise refuse(400, f"{version} is no version of PostgreSQL", hint="as in 15.2")
    return int(found[1]) * 10_000 + int(found[2] or 0)


def meets(services: Services, body: RestartAsked, version: int) -> None:
    """Whether this node is one of those that are meant."""
    seen = services.seen()
    report, leads = seen.fresh(seen.me), seen.facts.is_leader(seen.me)
    server = report.server if report is not None else None
    role = "primary" if leads else "replica"
    if body.role not in (None, "any", role):
        raise refuse(503, f"{seen.me} is {role}, not {body.role}: not restarted")
    if body.restart_pending and not (server is not None and server.pending):
        raise refuse(503, f"{seen.me} waits for no restart: not restarted")
    if version and not (server is not None and 0 < server.version_num < version):
        raise refuse(503, f"{seen.me} is not older than {body.postgres_version}: not restarted")


async def ended(services: Services, id: str, wait_s: float) -> Work:
    """The work once it has ended, or as it stands when nobody waits any longer."""
    began_s = services.clock()
    while True:
        found = services.herd.facts().upkeep.work(id)
        if found is not None and not found.is_open:
            return found
        if services.clock() - began_s > wait_s:
            raise refuse(
                503, f"not done after {wait_s:g} s; it goes on", hint=f"pgherd actions {id}"
            )
        await asyncio.sleep(POLL_S)


def told(found: Work) -> Response:
    if found.state is WorkState.DONE:
        return PlainTextResponse("restarted successfully")
    raise refuse(503, f"{found.what} is {found.state.value}: {found.text}")


@router.delete("/restart", operation_id="patroni_cancel_restart", responses=DONE)
async def cancel_restart(services: ServicesDep, caller: OperatorDep) -> Response:
    """Take a scheduled restart of this node back."""
    facts, mine = await current_facts(services), (services.herd.node,)
    scheduled = facts.upkeep.scheduled()
    found = [one for one in scheduled if one.verb is Verb.RESTART and one.nodes == mine]
    if not found:
        raise Problem(404, "unknown_action", "no restart of this node alone is scheduled")
    await upkeep.cancelled(services, found[0].id, str(caller))
    return PlainTextResponse("scheduled restart deleted")


@router.post(
    "/reinitialize",
    operation_id="patroni_reinitialize",
    openapi_extra=described(ReinitAsked, required=False),
    responses=DONE,
)
async def reinitialize(services: ServicesDep, caller: OperatorDep, body: ReinitBody) -> Response:
    """Copy this replica anew; the answer comes when that is asked for, not when it is done."""
    wanted = work.ReinitRequest(force=body.force, from_leader=body.from_leader)
    try:
        await Order(services.herd.node, services, caller, wanted).ask(Verb.REINIT)
    except Problem as problem:
        raise refuse(503, problem.message, hint=problem.hint) from problem
    return PlainTextResponse("reinitialize started")


# --- configuration -------------------------------------------------------------------------------


@router.patch(
    "/config",
    operation_id="patroni_patch_config",
    openapi_extra=described(patroniconfig.AnyConfig),
    response_model=schema.PatroniConfig,
    response_class=JSONResponse,
    response_model_exclude_none=True,
)
async def patch_config(services: ServicesDep, caller: AdminDep, request: Request) -> Response:
    """Change what is named and leave the rest; null deletes. Answers the whole."""
    return await set_config(services, caller, request, replaces=False)


@router.put(
    "/config",
    operation_id="patroni_put_config",
    openapi_extra=described(patroniconfig.AnyConfig),
    response_model=schema.PatroniConfig,
    response_class=JSONResponse,
    response_model_exclude_none=True,
)
async def put_config(services: ServicesDep, caller: AdminDep, request: Request) -> Response:
    """Have exactly what each named part says; a part that is not named stays."""
    return await set_config(services, caller, request, replaces=True)


async def set_config(
    services: Services, caller: Caller, request: Request, *, replaces: bool
) -> Response:
    """Each part through the call of our own; PostgreSQL's first, for its server may refuse it."""
    given = await read_json(request, optional=False)
    facts = await current_facts(services)
    wanted = patroniconfig.parts(facts, given, by=str(caller), replaces=replaces)
    response = Response()
    if wanted.config is not None:
        call = configuring.replace if replaces else configuring.merge
        await call(services, caller, response, wanted.config, configuring.TOLD_S, False)
    if wanted.sync is not None:
        await replication.change(services, caller, response, wanted.sync, WAIT_S)
    for slot in wanted.keep:
        await slotcalls.create(services, caller, response, slot, slotcalls.DONE_S)
    for name in wanted.drop:
        await slotcalls.drop(name, services, caller, response, slotcalls.DONE_S)
    if wanted.pause is not None and wanted.pause is not facts.paused:
        await (upkeep.pause if wanted.pause else upkeep.resume)(services, caller)
    shown = patroniviews.config(services.herd.facts(), shows_access=True)
    return Response(shown.model_dump_json(exclude_none=True), media_type="application/json")
