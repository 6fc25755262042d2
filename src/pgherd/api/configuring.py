"""Routes of the cluster's configuration: PostgreSQL's parameters for all members, in versions.

Owns the refusals with their reasons, and the wait until the members were told. The primary's server
checks every value before it enters the ledger; nothing is changed when it does not take one.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from pgherd.api import configplan, configschema
from pgherd.api.changes import POLL_S, WAIT_S_MAX, current_facts, submit
from pgherd.api.deps import AdminDep, SeenDep, Services, ServicesDep, viewer
from pgherd.api.failures import Problem
from pgherd.config.fields import parse_parameter, parse_parameter_name
from pgherd.config.parameters import CHOICES
from pgherd.config.problems import Wrong
from pgherd.ledger.commands import SetConfig
from pgherd.ledger.pgconfig import find, newest
from pgherd.model.errors import PeerError, PostgresError
from pgherd.model.facts import Facts
from pgherd.model.pgconfig import ConfigAsked, ConfigChecked

TOLD_S = 15.0
ELSEWHERE = ("synchronous_commit",)
"""What a commit promises is asked for with the mode (`replication`)."""

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
    """Change some parameters; null deletes one. Waits until all members were told."""
    facts = await current_facts(services)
    given = parsed(body.postgresql.parameters)
    merged = {**newest(facts).parameters, **given}
    wanted = {name: value for name, value in merged.items() if value is not None}
    return await change(
        services, facts, wish(facts, body, wanted, str(caller)), response, wait, dry_run
    )


@router.put("/api/v1/config", responses={202: {"model": configschema.ConfigPlan}})
async def replace(
    services: ServicesDep,
    caller: AdminDep,
    response: Response,
    body: configschema.ConfigWanted,
    wait: Wait = TOLD_S,
    dry_run: DryRun = False,
) -> configschema.ConfigPlan:
    """Have exactly these parameters. Waits until all members were told."""
    facts = await current_facts(services)
    given = parsed(body.postgresql.parameters)
    wanted = {name: value for name, value in given.items() if value is not None}
    return await change(
        services, facts, wish(facts, body, wanted, str(caller)), response, wait, dry_run
    )


@router.post("/api/v1/config/rollback", responses={202: {"model": configschema.ConfigPlan}})
async def rollback(
    services: ServicesDep,
    caller: AdminDep,
    response: Response,
    body: configschema.ConfigRollback,
    wait: Wait = TOLD_S,
    dry_run: DryRun = False,
) -> configschema.ConfigPlan:
    """Have an older version's parameters again, as a new version."""
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
        parameters=old.parameters,
        author=str(caller),
        reason=body.reason or f"back to version {old.version}",
        restores=old.version,
    )
    return await change(services, facts, command, response, wait, dry_run)


def wish(
    facts: Facts, body: configschema.ConfigWanted, wanted: dict[str, str], caller: str
) -> SetConfig:
    expected = body.expected_version
    return SetConfig(
        expected=newest(facts).version if expected is None else expected,
        parameters=wanted,
        author=caller,
        reason=body.reason,
    )


def parsed(given: dict[str, configschema.Value | None]) -> dict[str, str | None]:
    """Names and values as PostgreSQL writes them; what pgherd owns is refused with its reason."""
    found: dict[str, str | None] = {}
    wrong: list[str] = []
    for written, value in given.items():
        try:
            name = parse_parameter_name(written)
            found[name] = parse_parameter(value) if value is not None else None
        except Wrong as error:
            wrong.append(f"{written} {error.message}: {error.hint}")
            continue
        if name in ELSEWHERE:
            wrong.append(f"{name} is of what a commit promises: pgherd sync set")
        allowed = CHOICES.get(name, ())
        if allowed and found[name] not in (*allowed, None):
            wrong.append(f"{name} = {value}: acknowledged commits need {' or '.join(allowed)}")
    if wrong:
        raise invalid(wrong)
    return found


def invalid(wrong: list[str]) -> Problem:
    return Problem(
        422,
        "invalid",
        "; ".join(wrong),
        hint="nothing was changed; see what is set: pgherd config show",
        details={"problems": wrong},
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
    checked = await ask_server(services, facts, command.parameters)
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


async def ask_server(services: Services, facts: Facts, wanted: dict[str, str]) -> ConfigChecked:
    """What the primary's server says of them; a Problem where it does not take one."""
    asked = ConfigAsked(wanted, tuple(newest(facts).parameters))
    try:
        checked = await services.herd.check_config(asked)
    except (PostgresError, PeerError) as error:
        raise Problem(
            503,
            "unchecked",
            f"the primary's server could not check them, so nothing was changed: {error}",
            hint="wait for a primary: pgherd status",
        ) from error
    if checked.problems:
        raise invalid(list(checked.problems))
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
    found = configplan.changes(now.parameters, command.parameters, checked)
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
