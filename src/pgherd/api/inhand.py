"""What operators have in hand, in the public form. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from pgherd.api import upkeepschema as schema
from pgherd.api.times import iso
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId
from pgherd.model.observation import Heard
from pgherd.model.upkeep import Verb, Work, WorkState


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


def maintenance(facts: Facts, node: NodeId) -> schema.Maintenance | None:
    """Whether a node is in maintenance."""
    found = facts.upkeep.maintenance.get(node)
    if found is None:
        return None
    return schema.Maintenance(
        requested_by=found.requested_by,
        reason=found.reason,
        since=iso(found.since_ms),
        allow_failover=found.allow_failover,
        until=iso(found.until_ms),
    )


def stopped_by(facts: Facts, node: NodeId) -> str | None:
    """Who stopped PostgreSQL on a node, if somebody did."""
    found = facts.upkeep.stopped.get(node)
    return found.requested_by if found is not None else None


def warnings(facts: Facts) -> list[str]:
    """What operators have switched off or scheduled, and how it is undone."""
    found = []
    if facts.upkeep.pause is not None:
        found.append(f"{facts.upkeep.pause.sentence}: nobody takes over; end it: pgherd resume")
    for node, care in sorted(facts.upkeep.maintenance.items()):
        found.append(f"{node} is {care.sentence}; end it: pgherd maintenance off {node}")
    for work in facts.upkeep.scheduled():
        due, undo = iso(work.not_before_ms), f"pgherd actions {work.id} --cancel"
        found.append(f"{work.what} asked for by {work.requested_by} is due at {due}; undo: {undo}")
    return found


def progress(work: Work, reports: Mapping[NodeId, Heard]) -> int | None:
    """How much is done, in percent of its nodes; of a copy in hand by its own agent's word."""
    if work.state is WorkState.DONE:
        return 100
    if not work.verb.by_turns:
        return None
    now = 0
    if work.node is not None and work.verb is Verb.REINIT and work.node in reports:
        now = max(0, reports[work.node].report.progress_percent)
    return (100 * len(work.finished) + now) // len(work.nodes)


def action(work: Work, reports: Mapping[NodeId, Heard]) -> schema.Action:
    """One piece of work."""
    return schema.Action(
        id=work.id,
        action=work.verb.value,
        what=work.what,
        nodes=list(work.nodes),
        state=work.state.value,
        step=work.text,
        progress_percent=progress(work, reports),
        node=work.node,
        finished=list(work.finished),
        requested_by=work.requested_by,
        requested_at=iso(work.asked_at_ms),
        reason=work.reason,
        due_at=iso(work.not_before_ms),
        ended_at=iso(work.ended_at_ms),
    )
