"""Routes for what operators do with the herd: pause and resume.

Owns the form of what is asked. What follows is the deciders'. Every daemon takes every call.
"""

from __future__ import annotations

from fastapi import APIRouter

from pgherd.api import inhand
from pgherd.api import upkeepschema as schema
from pgherd.api.changes import current_facts, new_id, submit
from pgherd.api.deps import CONSISTENT_TIMEOUT_S, OperatorDep, Services, ServicesDep
from pgherd.api.times import unix_ms_of
from pgherd.ledger.commands import Pause, Resume

router = APIRouter()


@router.post("/api/v1/cluster/pause")
@router.post("/cluster/pause", operation_id="pause_bare")
async def pause(
    services: ServicesDep, caller: OperatorDep, body: schema.PauseRequest | None = None
) -> schema.PauseState:
    """Nobody fails over and nothing is repaired by itself from now on."""
    wanted = body or schema.PauseRequest()
    until = unix_ms_of(wanted.until, now_ms=int(services.unix_s() * 1000))
    await current_facts(services)
    command = Pause(id=new_id(), requested_by=str(caller), reason=wanted.reason, until_ms=until)
    await submit(services, command)
    return await known(services)


@router.post("/api/v1/cluster/resume")
@router.post("/cluster/resume", operation_id="resume_bare")
async def resume(services: ServicesDep, caller: OperatorDep) -> schema.PauseState:
    """The pause is over; without one nothing changes."""
    found = (await current_facts(services)).upkeep.pause
    if found is not None:
        await submit(services, Resume(id=found.id, reason=f"resumed by {caller}"))
    return await known(services)


async def known(services: Services) -> schema.PauseState:
    """The pause as this node knows it once it has applied what was just agreed on."""
    await services.herd.consistent(timeout_s=CONSISTENT_TIMEOUT_S)
    return inhand.pause_state(services.herd.facts())
