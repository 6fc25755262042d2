"""Drills, as commands change them: one at a time, on a whole cluster, and so many are kept.

Owns what is refused and how much is kept. Whether somebody fit would take over is asked before, by
the API (`plan.rehearsal`): the ledger knows no reports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.outcome import Result, note, refuse
from pgherd.model.drill import Drill, DrillKind, DrillState, regression
from pgherd.model.facts import Facts, Mode, Phase

DRILLS_MAX = 50
LASTS_MS_MAX = 180_000
"""After so long the node that measured has died; another drill may begin."""

replace = msgspec.structs.replace


def begin(facts: Facts, c: cmd.BeginDrill, at_ms: int) -> Result:
    if any(one.id == c.id for one in facts.drills):
        return refuse(facts, "already", f"drill {c.id} was begun before")
    why = cannot_begin(facts, c.kind, at_ms)
    if why is not None:
        return facts, why
    if facts.term != c.term or facts.leader is None:
        return refuse(facts, "stale", f"the term is {facts.term}, not {c.term}")
    made = Drill(
        id=c.id,
        kind=c.kind,
        requested_by=c.requested_by,
        node=c.node,
        primary=facts.leader.node,
        term=c.term,
        via=c.via,
        began_at_ms=at_ms,
    )
    kept = tuple(given_up(one, at_ms) for one in facts.drills)
    facts = replace(facts, drills=(*kept, made)[-DRILLS_MAX:])
    text = f"{made.what}, asked for by {c.requested_by}, measured by {c.node}"
    return note(facts, at_ms=at_ms, kind="drill.begun", text=text), cmd.Done(c.id)


def cannot_begin(facts: Facts, kind: DrillKind, at_ms: int) -> cmd.Refused | None:
    """Why no drill can begin; None when one can, as far as the facts say."""
    if why := not_at_rest(facts):
        return why
    running = next((one for one in facts.drills if is_running(one, at_ms)), None)
    if running is not None:
        return cmd.Refused("busy", f"{running.what} is under way on {running.node}")
    return may_lose(facts, kind)


def not_at_rest(facts: Facts) -> cmd.Refused | None:
    """Why nobody drills with this cluster: asked before a drill, and at its stroke."""
    if facts.follows is not None:
        return cmd.Refused("standby_cluster", "a standby cluster has no primary to drill with")
    if facts.phase is not Phase.STABLE:
        return cmd.Refused("not_stable", f"term {facts.term} is {facts.phase.value}")
    if facts.upkeep.pause is not None:
        return cmd.Refused("paused", facts.upkeep.pause.sentence)
    if facts.upkeep.maintenance:
        names = ", ".join(sorted(facts.upkeep.maintenance))
        return cmd.Refused("in_maintenance", f"in maintenance: {names}")
    if facts.switchover is not None or facts.forced is not None:
        return cmd.Refused("busy", "a change of primary is under way")
    begun = [work for work in facts.upkeep.open_works() if not work.not_before_ms or work.step]
    if begun:
        return cmd.Refused("busy", f"{begun[0].what} is under way")
    return None


def may_lose(facts: Facts, kind: DrillKind) -> cmd.Refused | None:
    """That a drill may cost commits."""
    if kind is DrillKind.KILL and facts.mode is Mode.ASYNC:
        text = "mode async may lose commits when the primary is killed: drill a switchover"
        return cmd.Refused("may_lose", text)
    return None


def is_running(drill: Drill, at_ms: int) -> bool:
    """Whether a drill is under way, and whoever measures can still be alive."""
    lasts = abs(at_ms - drill.began_at_ms) < LASTS_MS_MAX
    return drill.state is DrillState.RUNNING and lasts


def given_up(drill: Drill, at_ms: int) -> Drill:
    if drill.state is not DrillState.RUNNING:
        return drill
    text = f"{drill.node} did not tell how it ended"
    return replace(drill, state=DrillState.FAILED, text=text, ended_at_ms=at_ms)


def end(facts: Facts, c: cmd.EndDrill, at_ms: int) -> Result:
    found = next((one for one in facts.drills if one.id == c.id), None)
    if found is None or found.state is not DrillState.RUNNING:
        return refuse(facts, "stale", f"no drill {c.id} is under way")
    ended = replace(
        found,
        state=c.state,
        text=c.text,
        ended_at_ms=at_ms,
        new_primary=c.new_primary,
        measured=c.measured,
    )
    before = [one for one in facts.drills if one.id != c.id]
    if c.state is DrillState.DONE:
        ended = replace(ended, regression=regression(ended, before))
    facts = replace(facts, drills=tuple(ended if one.id == c.id else one for one in facts.drills))
    facts = note(facts, at_ms=at_ms, kind="drill.ended", text=f"{ended.what}: {c.text}")
    if ended.regression:
        text = f"{ended.what}: {ended.regression}"
        facts = note(facts, at_ms=at_ms, kind="drill.regressed", text=text)
    return facts, cmd.Done(c.id)


HANDLERS: dict[type, Callable[[Facts, Any, int], Result]] = {
    cmd.BeginDrill: begin,
    cmd.EndDrill: end,
}
