"""Routes about what a commit promises: the mode of replication and the number of copies.

Owns the wait until a mode is in force. The change is a command in the ledger; from mode async the
deciders bring the set about first. Every daemon takes every call.
"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response

from pgherd.api import schema
from pgherd.api.changes import POLL_S, WAIT_S, Wait, current_facts, submit
from pgherd.api.deps import AdminDep, Services, ServicesDep
from pgherd.api.failures import Problem
from pgherd.api.herd import TimedOut
from pgherd.api.promising import PROMISES, shown
from pgherd.ledger.commands import SetMode
from pgherd.model.facts import Facts, Mode

router = APIRouter()


def settings(facts: Facts) -> schema.SyncSettings:
    """What is asked for, beside what is in force."""
    return schema.SyncSettings(
        replication=facts.mode.value,
        replication_wanted=facts.mode_wanted.value if facts.mode_wanted is not None else None,
        num_sync_standbys=facts.num_sync or "auto",
        promise=PROMISES[facts.mode],
        in_force=shown(facts),
    )


@router.get("/api/v1/replication/sync")
async def read(services: ServicesDep) -> schema.SyncSettings:
    """The mode, how many copies are wanted, and what is in force of it now."""
    return settings(services.herd.facts())


@router.post("/api/v1/replication/sync", responses={202: {"model": schema.SyncSettings}})
async def change(
    services: ServicesDep,
    caller: AdminDep,
    response: Response,
    body: schema.SyncWanted,
    wait: Wait = WAIT_S,
) -> schema.SyncSettings:
    """Change the mode or the number of copies; waits until the mode is in force."""
    facts = await current_facts(services)
    if body.replication is None and body.num_sync_standbys is None:
        raise Problem(422, "invalid", "nothing to change: name replication or num_sync_standbys")
    mode = Mode(body.replication) if body.replication else facts.mode_wanted or facts.mode
    number = facts.num_sync if body.num_sync_standbys is None else body.num_sync_standbys
    wish = SetMode(mode, number if isinstance(number, int) else 0, requested_by=str(caller))
    await submit(services, wish)
    if wait == 0:
        response.status_code = 202
    else:
        await in_force(services, wish, wait_s=wait)
    return settings(services.herd.facts())


async def in_force(services: Services, wish: SetMode, *, wait_s: float) -> None:
    """Wait until this node knows the wish, and the mode is what was asked for."""
    began_s = services.clock()
    while not has(services.herd.facts(), wish):
        if services.clock() - began_s > wait_s:
            raise TimedOut(
                f"mode {wish.mode.value} is not in force after {wait_s:g} s; it goes on",
                "see what it waits for: pgherd explain; take it back: pgherd sync set --mode async",
            )
        await asyncio.sleep(POLL_S)


def has(facts: Facts, wish: SetMode) -> bool:
    """Whether a wish is fulfilled, as far as the ledger goes."""
    settled = facts.mode_wanted is None
    return settled and (facts.mode, facts.num_sync) == (wish.mode, wish.num_sync)
