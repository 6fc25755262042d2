"""Routes about what a commit promises: mode, copies, the wait of commits, limits of the sync set.

Owns the wait until it is in force. The changes are commands in the ledger; the deciders bring the
set about, step by step. Every daemon takes every call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import APIRouter, Depends, Response

from pgherd.api import syncschema as schema
from pgherd.api import syncviews
from pgherd.api.changes import POLL_S, WAIT_S, Wait, current_facts, submit
from pgherd.api.deps import AdminDep, SeenDep, Services, ServicesDep, viewer
from pgherd.api.failures import Problem
from pgherd.api.herd import TimedOut
from pgherd.api.reads import find
from pgherd.ledger.commands import SetMode, TuneSync
from pgherd.model.facts import Facts, Mode
from pgherd.model.synctuning import SyncTuning, weakens

router = APIRouter()
ACCEPTED: dict[int | str, dict[str, Any]] = {202: {"model": schema.SyncSettings}}


@router.get("/api/v1/replication/sync", dependencies=[Depends(viewer)])
async def read(seen: SeenDep) -> schema.SyncSettings:
    """What is wanted, what is in force of it now, who takes part, and since when."""
    return syncviews.settings(seen)


@router.post("/api/v1/replication/sync", responses=ACCEPTED)
@router.put("/api/v1/replication/sync", responses=ACCEPTED, operation_id="put_sync")
@router.patch("/api/v1/replication/sync", responses=ACCEPTED, operation_id="patch_sync")
async def change(
    services: ServicesDep,
    caller: AdminDep,
    response: Response,
    body: schema.SyncWanted,
    wait: Wait = WAIT_S,
) -> schema.SyncSettings:
    """Change what is named; waits until mode and commits' wait are in force.

    The set itself follows step by step; `in_force` and `standbys` say how far it is.
    """
    facts = await current_facts(services)
    if not (body.names_mode or body.names_tuning):
        raise Problem(
            422, "invalid", "nothing to change: name replication, num_sync_standbys or another"
        )
    tuning = tuned(facts, body)
    commands: list[SetMode | TuneSync] = []
    if body.names_tuning:
        commands.append(TuneSync(tuning, requested_by=str(caller)))
    if body.names_mode:
        mode = Mode(body.replication) if body.replication else facts.mode_wanted or facts.mode
        number = facts.num_sync if body.num_sync_standbys is None else body.num_sync_standbys
        wish = SetMode(mode, number if isinstance(number, int) else 0, requested_by=str(caller))
        # What is weaker comes last, what is stronger first: strict goes with full commits only.
        commands.insert(0 if weakens(tuning.commit) else len(commands), wish)
    for command in commands:
        await submit(services, command)
    if wait == 0:
        response.status_code = 202
    else:
        await in_force(services, [fulfilled(one) for one in commands], wait_s=wait)
    return syncviews.settings(services.seen())


def tuned(facts: Facts, body: schema.SyncWanted) -> SyncTuning:
    """The limits with what is named changed; nodes may be named in short."""
    new = facts.tuning
    if body.synchronous_commit is not None:
        commit = "" if body.synchronous_commit == "default" else body.synchronous_commit
        new = msgspec.structs.replace(new, commit=commit)
    if body.max_lag_bytes is not None:
        new = msgspec.structs.replace(new, max_lag_bytes=body.max_lag_bytes)
    if body.nosync is not None:
        names = sorted({find(facts, name).node for name in body.nosync})
        new = msgspec.structs.replace(new, nosync=tuple(names))
    return new


def fulfilled(command: SetMode | TuneSync) -> Callable[[Services], bool]:
    """Whether a wish is in force; a reply may not be told of before."""

    def mode_is(services: Services) -> bool:
        assert isinstance(command, SetMode)
        facts = services.herd.facts()
        has = (facts.mode, facts.num_sync) == (command.mode, command.num_sync)
        return facts.mode_wanted is None and has

    def tuning_is(services: Services) -> bool:
        assert isinstance(command, TuneSync)
        known = services.herd.facts().tuning == command.tuning
        return known and syncviews.commit_in_force(services.seen())

    return mode_is if isinstance(command, SetMode) else tuning_is


async def in_force(
    services: Services, wishes: list[Callable[[Services], bool]], *, wait_s: float
) -> None:
    """Wait until this node knows the wishes, and they are what counts."""
    began_s = services.clock()
    while not all(wish(services) for wish in wishes):
        if services.clock() - began_s > wait_s:
            raise TimedOut(
                f"it is in the ledger and not in force after {wait_s:g} s; it goes on",
                "see what it waits for: pgherd explain; take it back: pgherd sync set",
            )
        await asyncio.sleep(POLL_S)
