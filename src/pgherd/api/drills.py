"""Routes of drills: make a change of primary and measure it; what was measured.

Owns what is refused before anything is touched, and the public form. The ledger lets one drill run
at a time; the node that is asked measures (`daemon.drilling`).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from pgherd.api import candidacy, drillschema, views
from pgherd.api.changes import current_facts, new_id, submit
from pgherd.api.deps import ConsistentDep, OperatorDep, ServicesDep, viewer
from pgherd.api.failures import Problem, refused
from pgherd.api.times import iso
from pgherd.api.views import Seen
from pgherd.ledger.commands import BeginDrill
from pgherd.ledger.drills import LASTS_MS_MAX, cannot_begin, is_running, may_lose, not_at_rest
from pgherd.model.drill import Drill, DrillKind, DrillState
from pgherd.model.facts import Facts
from pgherd.model.synctuning import forgets
from pgherd.plan import rehearsal

router = APIRouter()


@router.post("/api/v1/drill", status_code=202)
async def drill(
    services: ServicesDep, caller: OperatorDep, body: drillschema.DrillRequest | None = None
) -> drillschema.Drill:
    """Change the primary, on purpose, and measure how long writes stand still; follow it by id.

    A kill needs the cluster's name in `confirm`.
    """
    wanted = body or drillschema.DrillRequest()
    kind, facts = DrillKind(wanted.kind), await current_facts(services)
    confirm(facts, kind, wanted.confirm)
    seen = services.seen()
    why = cannot_begin(facts, kind, seen.unix_ms)
    if why is not None:
        raise refused(why)
    if text := nobody_takes_over(seen, kind):
        raise Problem(412, "no_candidate", text, hint="see who could: pgherd explain")
    if text := forgetful(facts, kind):
        raise Problem(412, "may_lose", text, hint="pgherd sync set --synchronous-commit on")
    begin = BeginDrill(
        id=new_id(),
        kind=kind,
        node=seen.me,
        term=facts.term,
        via=services.herd.drill_via(),
        requested_by=str(caller),
    )
    await submit(services, begin)
    services.herd.begin_drill(begin, lambda: obstacle(services.seen(), kind))
    made = found(services.herd.facts(), begin.id)
    return shown(made, seen.unix_ms)


def confirm(facts: Facts, kind: DrillKind, said: str | None) -> None:
    """A kill is asked for twice, the second time by name."""
    if kind is DrillKind.SWITCHOVER or said == facts.cluster:
        return
    text = f"a kill of the primary is confirmed with the cluster's name, {facts.cluster}"
    if said is not None:
        text = f"this cluster is {facts.cluster}, not {said}"
    hint = (
        f'add {{"confirm": "{facts.cluster}"}}, or: pgherd drill --kill --confirm {facts.cluster}'
    )
    raise Problem(412, "not_confirmed", text, hint=hint)


def obstacle(seen: Seen, kind: DrillKind) -> str:
    """The same questions at the time of the stroke: seconds have gone by since they were asked."""
    facts = seen.facts
    why = not_at_rest(facts) or may_lose(facts, kind)
    if why is not None:
        return why.reason
    return nobody_takes_over(seen, kind) or forgetful(facts, kind)


def forgetful(facts: Facts, kind: DrillKind) -> str:
    """That clients are told of success before another node has what they wrote."""
    commit = facts.tuning.commit
    if kind is DrillKind.SWITCHOVER or not forgets(commit):
        return ""
    return f"synchronous_commit = {commit} may lose commits when the primary is killed"


def nobody_takes_over(seen: Seen, kind: DrillKind) -> str:
    """Why a drill would end with no other primary; "" where somebody fit is there."""
    facts = seen.facts
    if facts.leader is None or not views.can_write(seen):
        return "commits are not acknowledged now"
    known, leader = candidacy.known(seen), facts.leader.node
    if kind is DrillKind.SWITCHOVER:
        played = rehearsal.if_switched(known, None)
    else:
        played = rehearsal.if_lost(known, [leader])
    if played.primary not in (None, leader):
        return ""
    return candidacy.unfit(seen, [leader]) or played.why


@router.get("/api/v1/drills", dependencies=[Depends(viewer)])
async def drills(seen: ConsistentDep) -> drillschema.Drills:
    """What was measured, oldest first."""
    return drillschema.Drills(drills=[shown(one, seen.unix_ms) for one in seen.facts.drills])


@router.get("/api/v1/drills/{drill_id}", dependencies=[Depends(viewer)])
async def one_drill(
    drill_id: Annotated[str, Path(max_length=64)], seen: ConsistentDep
) -> drillschema.Drill:
    """How one stands, or what it found."""
    return shown(found(seen.facts, drill_id), seen.unix_ms)


def found(facts: Facts, id: str) -> Drill:
    for one in facts.drills:
        if one.id == id:
            return one
    raise Problem(404, "unknown_drill", f"there is no drill {id}", hint="GET /api/v1/drills")


def shown(one: Drill, unix_ms: int) -> drillschema.Drill:
    """One drill; one whose node never told how it ended has failed."""
    state, text, measured = one.state, one.text, one.measured
    if state is DrillState.RUNNING and not is_running(one, unix_ms):
        state = DrillState.FAILED
        text = f"{one.node} did not tell within {LASTS_MS_MAX // 1000} s how it ended"
    return drillschema.Drill(
        id=one.id,
        kind=one.kind.value,
        state=state.value,
        text=text,
        requested_by=one.requested_by,
        node=one.node,
        via=one.via,
        old_primary=one.primary,
        new_primary=one.new_primary,
        epoch=one.term,
        began_at=iso(one.began_at_ms) or "",
        ended_at=iso(one.ended_at_ms) if one.ended_at_ms else None,
        outage_ms=measured.outage_ms if measured is not None else None,
        acknowledged=measured.acknowledged if measured is not None else 0,
        failed=measured.failed if measured is not None else 0,
        missing=measured.missing if measured is not None else 0,
        regression=one.regression,
    )
