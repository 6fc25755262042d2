"""Routes of the cluster's configuration: PostgreSQL's, for all members, in versions.

Owns the refusals with their reasons, and the wait until the members were told. The primary's server
checks every value before it enters the ledger; nothing is changed when it does not take one.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from pgherd.api import configplan, configschema, configwish
from pgherd.api.changes import POLL_S, WAIT_S_MAX, current_facts, submit
from pgherd.api.deps import AdminDep, SeenDep, Services, ServicesDep, viewer
from pgherd.api.failures import Problem
from pgherd.api.times import iso, unix_ms_of
from pgherd.ledger.commands import EndTrial, SetConfig
from pgherd.ledger.pgconfig import find, newest, said
from pgherd.model.errors import PeerError, PostgresError
from pgherd.model.facts import Facts
from pgherd.model.pgconfig import ConfigChecked, Content

TOLD_S = 15.0

Wait = Annotated[
    float, Query(ge=0, le=WAIT_S_MAX, description="Seconds to wait until all were told; 0: 202.")
]
DryRun = Annotated[bool, Query(description="Only say what it would do.")]

router = APIRouter()


@router.get("/api/v1/config", dependencies=[Depends(viewer)])
async def read(seen: SeenDep) -> configschema.Config:
    """The version in force, and how far each member is with it."""
    return configplan.config(seen)


@router.get("/api/v1/config/history", dependencies=[Depends(viewer)])
async def history(seen: SeenDep) -> configschema.ConfigHistory:
    """Every version that is kept, the newest first."""
    shown = [configplan.version_shown(one) for one in reversed(seen.facts.config)]
    return configschema.ConfigHistory(versions=shown)


@router.patch("/api/v1/config", responses={202: {"model": configschema.ConfigPlan}})
async def merge(
    services: ServicesDep,
    caller: AdminDep,
    response: Response,
    body: configschema.ConfigWanted,
    wait: Wait = TOLD_S,
    dry_run: DryRun = False,
) -> configschema.ConfigPlan:
    """Change what is named; null deletes a parameter. Waits until all members were told."""
    facts = await current_facts(services)
    command = wish(services, facts, body, str(caller), merges=True)
    return await change(services, facts, command, response, wait, dry_run)


@router.put("/api/v1/config", responses={202: {"model": configschema.ConfigPlan}})
async def replace(
    services: ServicesDep,
    caller: AdminDep,
    response: Response,
    body: configschema.ConfigWanted,
    wait: Wait = TOLD_S,
    dry_run: DryRun = False,
) -> configschema.ConfigPlan:
    """Have exactly what is named; a part that is not named stays. Waits until all were told."""
    facts = await current_facts(services)
    command = wish(services, facts, body, str(caller), merges=False)
    return await change(services, facts, command, response, wait, dry_run)


@router.post("/api/v1/config/rollback", responses={202: {"model": configschema.ConfigPlan}})
async def rollback(
    services: ServicesDep,
    caller: AdminDep,
    response: Response,
    body: configschema.ConfigRollback,
    wait: Wait = TOLD_S,
    dry_run: DryRun = False,
) -> configschema.ConfigPlan:
    """Have again what an older version says, as a new version; this ends a trial."""
    facts = await current_facts(services)
    old = find(facts, body.version)
    if old is None:
        raise Problem(
            404,
            "unknown_version",
            f"no version {body.version} of the configuration is kept",
            hint="see them: pgherd config history",
        )
    command = SetConfig(
        expected=newest(facts).version,
        author=str(caller),
        reason=body.reason or f"back to version {old.version}",
        restores=old.version,
        **old.fields(),
    )
    return await change(services, facts, command, response, wait, dry_run)


@router.post("/api/v1/config/confirm")
async def confirm(
    services: ServicesDep, caller: AdminDep, body: configschema.ConfigConfirm
) -> configschema.Config:
    """Keep a version that is on trial."""
    facts = await current_facts(services)
    now = newest(facts)
    if now.trial is None or body.version not in (None, now.version):
        text = f"version {body.version or now.version} of the configuration is not on trial"
        raise Problem(409, "stale", text, hint="look again: pgherd config show")
    await submit(services, EndTrial(now.version, confirmed=True, author=str(caller)))
    return configplan.config(services.seen())


def wish(
    services: Services,
    facts: Facts,
    body: configschema.ConfigWanted,
    caller: str,
    *,
    merges: bool,
) -> SetConfig:
    now, expected, seen = newest(facts), body.expected_version, services.seen()
    wanted = configwish.wanted(facts, now.content(), body, merges=merges)
    until_ms = unix_ms_of(body.trial, now_ms=seen.unix_ms)
    return SetConfig(
        expected=now.version if expected is None else expected,
        author=caller,
        reason=body.reason,
        trial_until_ms=until_ms,
        streamed=configplan.streaming_now(seen) if until_ms else (),
        **wanted.fields(),
    )


async def change(
    services: Services,
    facts: Facts,
    command: SetConfig,
    response: Response,
    wait_s: float,
    dry_run: bool,
) -> configschema.ConfigPlan:
    """Check, plan, commit, and wait."""
    now = newest(facts)
    if command.expected != now.version:
        text = f"version {now.version} of the configuration is in force, not {command.expected}"
        raise Problem(409, "stale", text, hint="look again: pgherd config show")
    if now.trial is not None and not command.restores:
        until = iso(now.trial.until_ms)
        raise Problem(
            409,
            "on_trial",
            f"version {now.version} of the configuration is on trial until {until}",
            hint=f"pgherd config confirm   (or: pgherd config rollback {now.version - 1})",
        )
    checked = await ask_server(services, now.content(), said(command))
    if dry_run:
        return plan(services, facts, command, checked, status="planned")
    before = plan(services, facts, command, checked, status="accepted")
    await submit(services, command)
    if wait_s == 0 or not before.changes or not await all_told(services, before.version, wait_s):
        response.status_code = 200 if not before.changes else 202
        status: configschema.Status = "done" if not before.changes else "accepted"
    else:
        status = "done"
    nodes = configplan.nodes(services.seen())
    return before.model_copy(update={"status": status, "nodes": nodes})


async def ask_server(services: Services, now: Content, wanted: Content) -> ConfigChecked:
    """What the primary's server says of a change; a Problem where it does not take it."""
    try:
        checked = await services.herd.check_config(configwish.question(now, wanted))
    except (PostgresError, PeerError) as error:
        raise Problem(
            503,
            "unchecked",
            f"the primary's server could not check it, so nothing was changed: {error}",
            hint="wait for a primary: pgherd status",
        ) from error
    if checked.problems:
        raise configwish.invalid(list(checked.problems))
    return checked


def plan(
    services: Services,
    facts: Facts,
    command: SetConfig,
    checked: ConfigChecked,
    *,
    status: configschema.Status,
) -> configschema.ConfigPlan:
    seen, now = services.seen(), newest(facts)
    found = configplan.changes(now.content(), said(command), checked)
    primary = facts.leader.node if facts.leader is not None else "the primary"
    return configschema.ConfigPlan(
        status=status,
        version=now.version + (1 if found else 0),
        changes=found,
        steps=configplan.steps(seen, found),
        notes=configplan.notes(checked, primary),
        nodes=configplan.nodes(seen),
    )


async def all_told(services: Services, version: int, wait_s: float) -> bool:
    """Wait until every member that is heard has this version or a later one, and one at least."""
    began_s = services.clock()
    while True:
        seen = services.seen()
        versions = [one.version for one in configplan.nodes(seen) if one.version is not None]
        if newest(seen.facts).version >= version <= min(versions, default=0):
            return True
        if services.clock() - began_s > wait_s:
            return False
        await asyncio.sleep(POLL_S)
