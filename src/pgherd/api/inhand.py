"""What operators have in hand, in the public form. Pure."""

from __future__ import annotations

from pgherd.api import upkeepschema as schema
from pgherd.api.times import iso
from pgherd.model.facts import Facts


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
