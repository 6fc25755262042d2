"""What operators have in hand, in the public form. Pure."""

from __future__ import annotations

from pgherd.api import upkeepschema as schema
from pgherd.api.times import iso
from pgherd.model.facts import Facts
from pgherd.model.upkeep import Work


def pause(facts: Facts) -> schema.Pause | None:
    """The pause in force."""
    found = facts.upkeep.pause
    if found is None:
        return None
    return schema.Pause(
        requested_by=found.requested_by,
        reason=found.reason,
        since=iso(found.since_ms),
        until=iso(found.until_ms),
    )


def pause_state(facts: Facts) -> schema.PauseState:
    """Whether the cluster is paused."""
    return schema.PauseState(paused=facts.paused, pause=pause(facts))


def action(work: Work) -> schema.Action:
    """One piece of work."""
    return schema.Action(
        id=work.id,
        action=work.verb.value,
        nodes=list(work.nodes),
        state=work.state.value,
        step=work.text,
        node=work.node,
        finished=list(work.finished),
        requested_by=work.requested_by,
        requested_at=iso(work.asked_at_ms),
        reason=work.reason,
        due_at=iso(work.not_before_ms),
        ended_at=iso(work.ended_at_ms),
    )
