"""Routes of passwords that change while the cluster runs: begin a change, and see how far it is.

No secret is ever answered. Owns the refusals and the wait until the new one is in use.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from pgherd.api import passwordschema as schema
from pgherd.api.changes import POLL_S, WAIT_S_MAX, current_facts, submit
from pgherd.api.deps import AdminDep, SeenDep, Services, ServicesDep, viewer
from pgherd.api.failures import Problem, refused
from pgherd.api.times import iso
from pgherd.api.views import Seen, data_members
from pgherd.config.units import parse_duration_ms
from pgherd.ledger.commands import EndOverlap, Refused
from pgherd.model.credentials import Stage, Which, mark
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Facts

USED_S = 15.0

Wait = Annotated[
    float, Query(ge=0, le=WAIT_S_MAX, description="Seconds to wait until it is in use; 0: 202.")
]

router = APIRouter()


@router.get("/api/v1/passwords", dependencies=[Depends(viewer)])
async def read(seen: SeenDep) -> schema.Passwords:
    """How far each change is, and which nodes are waited for."""
    return shown(seen)


@router.post("/api/v1/passwords/rotate", responses={202: {"model": schema.Passwords}})
async def rotate(
    services: ServicesDep,
    caller: AdminDep,
    response: Response,
    body: schema.PasswordWanted,
    wait: Wait = USED_S,
) -> schema.Passwords:
    """Change a password while both the new and the former one are valid. Cuts no stream."""
    facts, which = await current_facts(services), Which(body.which)
    refuse(facts, which, body)
    limit_ms, secret = overlap_ms(body), body.verifier or ""
    try:
        outcome = await services.herd.rotate(
            which, secret=secret, overlap_ms=limit_ms, author=str(caller)
        )
    except OperatorError as error:
        raise Problem(503, "unfit", error.message, hint=error.hint) from error
    if isinstance(outcome, Refused):
        raise refused(outcome)
    if not await in_use(services, which, wait):
        response.status_code = 202
    return shown(services.seen())


@router.post("/api/v1/passwords/end")
async def end(
    services: ServicesDep, caller: AdminDep, body: schema.PasswordEnd
) -> schema.Passwords:
    """End the time in which a former password is valid too, once all have the new one."""
    facts, which = await current_facts(services), Which(body.which)
    now = facts.credentials.get(which)
    generation = now.generation if now is not None else 0
    await submit(services, EndOverlap(which, generation, str(caller)))
    return shown(services.seen())


def refuse(facts: Facts, which: Which, body: schema.PasswordWanted) -> None:
    """Why this cannot begin."""
    if which is Which.SUPERUSER and not body.verifier:
        text = "the superuser's password is people's to choose: verifier is missing"
        raise Problem(422, "invalid", text, hint="pgherd passwords rotate superuser asks for it")
    if which is not Which.SUPERUSER and body.verifier:
        text = f"the password of {which.value} is made by pgherd: leave verifier out"
        raise Problem(422, "invalid", text)
    now = facts.credentials.get(which)
    if now is not None and now.stage is not Stage.ENDED:
        text = f"a change of the password of {which.value} goes on"
        raise Problem(409, "busy", text, hint="see how far it is: pgherd passwords show")


def overlap_ms(body: schema.PasswordWanted) -> int:
    try:
        return parse_duration_ms(body.overlap)
    except ValueError as error:
        text = f"{body.overlap} is no duration"
        raise Problem(422, "invalid", text, hint="as in 10m") from error


async def in_use(services: Services, which: Which, wait_s: float) -> bool:
    """Wait until new connections use it."""
    began_s = services.clock()
    while True:
        now = services.seen().facts.credentials.get(which)
        if now is not None and now.stage is not Stage.MADE:
            return True
        if services.clock() - began_s >= wait_s:
            return False
        await asyncio.sleep(POLL_S)


def shown(seen: Seen) -> schema.Passwords:
    """What the ledger says of every password that was changed."""
    wanted = mark(seen.facts.credentials)
    lacking = []
    for member in data_members(seen.facts) if wanted else []:
        report = seen.fresh(member.node)
        if report is None or report.server.logins != wanted:
            lacking.append(str(member.node))
    found = [
        schema.Password(
            which=which.value,
            generation=one.generation,
            stage=one.stage.value,
            changed_at=iso(one.at_ms),
            author=one.author,
            former_valid_until=iso(one.until_ms) if one.stage is Stage.BOTH else None,
        )
        for which, one in sorted(seen.facts.credentials.items())
    ]
    return schema.Passwords(passwords=found, waits_for=lacking)
