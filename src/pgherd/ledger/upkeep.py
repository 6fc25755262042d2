"""What operators have in hand with the herd, as commands change it.

Owns what is refused and how much is kept. What follows from it is `plan.upkeep`'s and
`plan.tending`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.outcome import Result, note, refuse
from pgherd.model.facts import Facts, Kind, Mode, Phase, Switchover
from pgherd.model.ids import NodeId
from pgherd.model.upkeep import Care, Pause, Stopped, Verb, Work, WorkState

ENDED_MAX = 50
TAKES_A_COPY = (Verb.STOP, Verb.REINIT)

replace = msgspec.structs.replace


def changed(facts: Facts, **fields: object) -> Facts:
    """The facts with some of what is in hand changed."""
    return replace(facts, upkeep=replace(facts.upkeep, **fields))


def pause(facts: Facts, c: cmd.Pause, at_ms: int) -> Result:
    """A pause in a pause replaces it: its end or its reason is another one."""
    before = facts.upkeep.pause
    since = before.since_ms if before is not None else at_ms
    made = Pause(c.id, c.requested_by, c.reason, since_ms=since, until_ms=c.until_ms)
    facts = changed(facts, pause=made)
    return note(facts, at_ms=at_ms, kind="cluster.paused", text=made.sentence), cmd.Done()


def resume(facts: Facts, c: cmd.Resume, at_ms: int) -> Result:
    before = facts.upkeep.pause
    if before is None or before.id != c.id:
        return refuse(facts, "stale", f"no pause {c.id} is in force")
    facts = changed(facts, pause=None)
    return note(facts, at_ms=at_ms, kind="cluster.resumed", text=c.reason), cmd.Done()


def set_maintenance(facts: Facts, c: cmd.SetMaintenance, at_ms: int) -> Result:
    if c.node not in facts.members:
        return refuse(facts, "unknown_node", f"{c.node} is no member")
    if c.enabled and facts.is_leader(c.node):
        return refuse(facts, "is_primary", f"{c.node} is the primary: switch over first")
    kept = {node: one for node, one in facts.upkeep.maintenance.items() if node != c.node}
    text = f"{c.node} is back from maintenance, by {c.requested_by}"
    if c.enabled:
        care = Care(c.requested_by, c.reason, since_ms=at_ms, allow_failover=c.allow_failover)
        kept[c.node] = care
        text = f"{c.node} is {care.sentence}"
    facts = changed(facts, maintenance=kept)
    return note(facts, at_ms=at_ms, kind="member.maintenance", text=text), cmd.Done()


def ask_work(facts: Facts, c: cmd.AskWork, at_ms: int) -> Result:
    why = cannot_be_asked(facts, c)
    if why is not None:
        return facts, why
    work = Work(
        id=c.id,
        verb=c.verb,
        nodes=c.nodes,
        requested_by=c.requested_by,
        asked_at_ms=at_ms,
        reason=c.reason,
        not_before_ms=c.not_before_ms,
        rolling=c.rolling,
        force=c.force,
        source=c.source,
        from_leader=c.from_leader,
    )
    facts = changed(facts, works=(*facts.upkeep.works, work))
    if c.verb is Verb.START:  # at once: without this server there may be no stable term
        left = {node: one for node, one in facts.upkeep.stopped.items() if node not in c.nodes}
        facts = changed(facts, stopped=left)
    text = f"{c.verb.value} of {', '.join(c.nodes)} asked for by {c.requested_by}"
    return note(facts, at_ms=at_ms, kind="work.requested", text=text), cmd.Done(c.id)


def cannot_be_asked(facts: Facts, c: cmd.AskWork) -> cmd.Refused | None:
    """Why work is refused at once; what shows only later makes it fail."""
    for node in c.nodes:
        member = facts.members.get(node)
        if member is None or member.kind is not Kind.DATA:
            return cmd.Refused("unknown_node", f"{node} is no data member")
        if c.verb is Verb.START and node not in facts.upkeep.stopped:
            return cmd.Refused("not_stopped", f"nobody stopped PostgreSQL on {node}")
        if c.verb is Verb.REINIT and facts.is_leader(node):
            return cmd.Refused("is_primary", f"{node} is the primary: switch over first")
        if c.verb is Verb.STOP and facts.is_leader(node) and not c.force:
            return cmd.Refused("is_primary", f"{node} is the primary: it hands over by force only")
        if c.verb in TAKES_A_COPY and not c.force and (few := too_few_copies(facts, node)):
            return cmd.Refused("too_few_copies", few)
    if c.source is not None and (why := cannot_lend(facts, c.source, c.nodes)):
        return cmd.Refused("cannot_lend", why)
    for work in facts.upkeep.open_works():
        both = set(work.nodes) & set(c.nodes)
        if both:
            text = f"{work.verb.value} {work.id} of {', '.join(sorted(both))} has not ended"
            return cmd.Refused("busy", text)
    return None if c.nodes else cmd.Refused("invalid", "no node is named")


def cannot_lend(facts: Facts, source: NodeId, nodes: tuple[NodeId, ...]) -> str:
    """Why a node cannot be copied to others; "" when it can."""
    member = facts.members.get(source)
    if member is None or member.kind is not Kind.DATA:
        return f"{source} is no data member"
    return f"{source} cannot be copied to itself" if source in nodes else ""


def too_few_copies(facts: Facts, node: NodeId) -> str:
    """Why commits could not go on without this copy; "" when they could."""
    if facts.mode is not Mode.STRICT:
        return ""
    away = {*facts.upkeep.stopped, node}
    data = [m for m in facts.members.values() if m.kind is Kind.DATA and not m.leaving]
    wanted = facts.num_sync or len(data) // 2
    copies = sum(m.node not in away for m in data) - 1
    if copies >= wanted:
        return ""
    return f"mode strict needs {wanted} copies beside the primary, {copies} would be left"


def with_work(facts: Facts, work: Work) -> Facts:
    """Some work changed; of what has ended only the newest stays."""
    works = tuple(work if one.id == work.id else one for one in facts.upkeep.works)
    ended = [one.id for one in works if not one.is_open]
    dropped = set(ended[:-ENDED_MAX])
    return changed(facts, works=tuple(one for one in works if one.id not in dropped))


def take_in_hand(facts: Facts, c: cmd.TakeInHand, at_ms: int) -> Result:
    work = facts.upkeep.work(c.id)
    if work is None or not work.is_open or work.step != c.step:
        return refuse(facts, "stale", f"work {c.id} has gone on")
    if facts.phase is not Phase.STABLE or c.node not in facts.members:
        return refuse(facts, "not_stable", f"term {facts.term} is {facts.phase.value}")
    if c.shift is not cmd.Shift.NONE:
        if facts.switchover is not None:
            return refuse(facts, "busy", "a switchover is under way")
        to = c.node if c.shift is cmd.Shift.IN_PLACE else None
        wish = Switchover(
            id=work.id, candidate=to, requested_by=work.requested_by, requested_at_ms=at_ms
        )
        facts = replace(facts, switchover=wish)
    facts = with_stopped(facts, work, c, at_ms)
    work = replace(
        work,
        state=WorkState.RUNNING,
        node=c.node,
        mark=c.mark,
        text=c.text,
        step=work.step + 1,
        stepped_at_ms=at_ms,
    )
    facts = with_work(facts, work)
    return note(facts, at_ms=at_ms, kind="work.goes-on", text=c.text, rule=c.rule), cmd.Done()


def with_stopped(facts: Facts, work: Work, c: cmd.TakeInHand, at_ms: int) -> Facts:
    """Who stays stopped, once its turn has come."""
    stopped = {node: one for node, one in facts.upkeep.stopped.items() if node != c.node}
    if work.verb is Verb.STOP and c.shift is cmd.Shift.NONE:
        return changed(facts, stopped={**stopped, c.node: Stopped(work.requested_by, at_ms)})
    if work.verb in (Verb.RESTART, Verb.REINIT):
        return changed(facts, stopped=stopped)
    return facts


def cross_off(facts: Facts, c: cmd.CrossOff, at_ms: int) -> Result:
    work = facts.upkeep.work(c.id)
    if work is None or not work.is_open or work.step != c.step or work.node is None:
        return refuse(facts, "stale", f"work {c.id} has gone on")
    work = replace(
        work, node=None, mark="", text="", finished=(*work.finished, work.node), step=work.step + 1
    )
    left = set(work.nodes) - set(work.finished)
    if left and not work.cancelling:
        return with_work(facts, work), cmd.Done()
    return ended(facts, work, WorkState.CANCELLED if left else WorkState.DONE, at_ms, c.rule)


def end_work(facts: Facts, c: cmd.EndWork, at_ms: int) -> Result:
    work = facts.upkeep.work(c.id)
    if work is None or not work.is_open:
        return refuse(facts, "has_ended", f"no work {c.id} is under way")
    if c.state is WorkState.CANCELLED and work.node is not None:
        work = replace(work, cancelling=True)
        return with_work(facts, work), cmd.Done(f"it ends after {work.node}")
    return ended(facts, replace(work, text=c.text), c.state, at_ms, c.rule)


def ended(facts: Facts, work: Work, state: WorkState, at_ms: int, rule: int) -> Result:
    work = replace(work, state=state, node=None, ended_at_ms=at_ms, step=work.step + 1)
    why = f": {work.text}" if work.text else ""
    text = f"{work.verb.value} of {', '.join(work.nodes)} is {state.value}{why}"
    facts = with_work(facts, work)
    return note(facts, at_ms=at_ms, kind="work.ended", text=text, rule=rule), cmd.Done()


HANDLERS: dict[type, Callable[[Facts, Any, int], Result]] = {
    cmd.Pause: pause,
    cmd.Resume: resume,
    cmd.SetMaintenance: set_maintenance,
    cmd.AskWork: ask_work,
    cmd.TakeInHand: take_in_hand,
    cmd.CrossOff: cross_off,
    cmd.EndWork: end_work,
}
