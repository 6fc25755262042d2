"""What operators have in hand with the herd, as commands change it.

Owns what is refused and how much is kept. What follows from it is `plan.upkeep`'s and
`plan.tending`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import ACTIONS, DIRECTIVES, STARTS
from pgherd.ledger.outcome import Result, note, refuse
from pgherd.model.facts import Facts, Kind, Mode, Phase, Switchover
from pgherd.model.ids import NodeId, Term
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
    if not c.enabled:
        text = f"{c.node} is back from maintenance, by {c.requested_by}"
        return out_of_maintenance(facts, c.node, at_ms, text), cmd.Done()
    care = Care(
        c.requested_by,
        c.reason,
        since_ms=at_ms,
        allow_failover=c.allow_failover,
        until_ms=c.until_ms,
    )
    text = f"{c.node} is {care.sentence}"
    facts = without_work(facts, c.node, at_ms, "asked for anew")
    facts = changed(facts, maintenance={**facts.upkeep.maintenance, c.node: care})
    if c.id:
        work = Work(
            id=c.id,
            verb=Verb.MAINTENANCE,
            nodes=(c.node,),
            requested_by=c.requested_by,
            asked_at_ms=at_ms,
            reason=c.reason,
            state=WorkState.RUNNING,
            text=f"{c.node} leaves the sync set once commits can do without it",
            stepped_at_ms=at_ms,
            term=term_of(facts),
        )
        facts = changed(facts, works=(*facts.upkeep.works, work))
    return note(facts, at_ms=at_ms, kind="member.maintenance", text=text), cmd.Done(c.id)


def end_maintenance(facts: Facts, c: cmd.EndMaintenance, at_ms: int) -> Result:
    care = facts.upkeep.maintenance.get(c.node)
    if care is None or care.since_ms != c.since_ms:
        return refuse(facts, "stale", f"{c.node} is not in that maintenance")
    return out_of_maintenance(facts, c.node, at_ms, c.reason, rule=c.rule), cmd.Done()


def out_of_maintenance(facts: Facts, node: NodeId, at_ms: int, text: str, rule: int = 0) -> Facts:
    kept = {name: one for name, one in facts.upkeep.maintenance.items() if name != node}
    facts = without_work(changed(facts, maintenance=kept), node, at_ms, text)
    return note(facts, at_ms=at_ms, kind="member.maintenance", text=text, rule=rule)


def without_work(facts: Facts, node: NodeId, at_ms: int, why: str) -> Facts:
    """The way into maintenance ends unfinished."""
    for work in facts.upkeep.open_works():
        if work.verb is Verb.MAINTENANCE and work.nodes == (node,):
            work = replace(work, text=why)
            facts, _ = ended(facts, work, WorkState.CANCELLED, at_ms, rule=0)
    return facts


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
        only_pending=c.only_pending,
        term=term_of(facts),
        only_outdated=c.only_outdated,
    )
    facts = changed(facts, works=(*facts.upkeep.works, work))
    if c.verb is Verb.START:  # at once: without this server there may be no stable term
        left = {node: one for node, one in facts.upkeep.stopped.items() if node not in c.nodes}
        facts = changed(facts, stopped=left)
    text = f"{work.what} asked for by {c.requested_by}"
    return note(facts, at_ms=at_ms, kind="work.requested", text=text), cmd.Done(c.id)


def term_of(facts: Facts) -> Term:
    """The term that work is asked for in; programs of an older level know of none."""
    return facts.term if facts.level >= DIRECTIVES else Term(0)


def forget_work(facts: Facts, c: cmd.ForgetWork, at_ms: int) -> Result:
    """What ended before then goes; the history keeps a line of it."""
    kept = tuple(
        work for work in facts.upkeep.works if work.is_open or work.ended_at_ms >= c.before_ms
    )
    return changed(facts, works=kept), cmd.Done()


def cannot_be_asked(facts: Facts, c: cmd.AskWork) -> cmd.Refused | None:
    """Why work is refused at once; what shows only later makes it fail."""
    if facts.follows is not None and c.verb is not Verb.MAINTENANCE:
        text = f"this is a standby cluster, which {facts.follows.sentence}"
        return cmd.Refused("standby_cluster", f"{text}: work by turns begins at a primary")
    if not c.verb.by_turns:
        return cannot_be_scheduled(facts, c)
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
        if both and in_the_way(facts, work, c):
            text = f"{work.verb.value} {work.id} of {', '.join(sorted(both))} has not ended"
            return cmd.Refused("busy", text)
    return None if c.nodes else cmd.Refused("invalid", "no node is named")


def cannot_lend(facts: Facts, source: NodeId, nodes: tuple[NodeId, ...]) -> str:
    """Why a node cannot be copied to others; "" when it can."""
    member = facts.members.get(source)
    if member is None or member.kind is not Kind.DATA:
        return f"{source} is no data member"
    return f"{source} cannot be copied to itself" if source in nodes else ""


def in_the_way(facts: Facts, work: Work, c: cmd.AskWork) -> bool:
    """Whether work on the same node has to end first; what is for later keeps nothing waiting."""
    if c.verb is Verb.START and facts.level >= STARTS:
        return work.node in c.nodes  # what waits for a stable term may wait for this very server
    if facts.level < ACTIONS:
        return True
    is_later = work.state is WorkState.PENDING and work.not_before_ms > 0
    if not work.verb.by_turns or is_later != (c.not_before_ms > 0):
        return False
    return not is_later or work.verb is c.verb


def cannot_be_scheduled(facts: Facts, c: cmd.AskWork) -> cmd.Refused | None:
    """Of a switchover; whether its candidate is fit shows when it is due."""
    if c.verb is not Verb.SWITCHOVER or not c.not_before_ms:
        return cmd.Refused("invalid", f"{c.verb.value} is not asked for like this")
    for node in c.nodes:
        member = facts.members.get(node)
        if member is None or member.kind is not Kind.DATA:
            return cmd.Refused("unknown_node", f"{node} is no data member")
    for work in facts.upkeep.open_works():
        if work.verb is Verb.SWITCHOVER and work.state is WorkState.PENDING:
            return cmd.Refused("busy", f"{work.what} ({work.id}) is scheduled already")
    return None


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
    if work.state is WorkState.PENDING and (other := facts.upkeep.at_work(work)) is not None:
        return refuse(facts, "busy", f"{other.what} ({other.id}) is under way")
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
    starts = work.verb is Verb.START and facts.level >= STARTS
    if starts or work.verb in (Verb.RESTART, Verb.REINIT):
        return changed(facts, stopped=stopped)
    return facts


def cross_off(facts: Facts, c: cmd.CrossOff, at_ms: int) -> Result:
    work = facts.upkeep.work(c.id)
    node = (work.node or c.passes) if work is not None else None
    if work is None or not work.is_open or work.step != c.step or node is None:
        return refuse(facts, "stale", f"work {c.id} has gone on")
    text = f"{node} waits for no restart" if c.passes else ""
    work = replace(
        work, node=None, mark="", text=text, finished=(*work.finished, node), step=work.step + 1
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
    if c.state is WorkState.CANCELLED and work.state is WorkState.RUNNING:
        if work.verb is Verb.MAINTENANCE:
            return out_of_maintenance(facts, work.nodes[0], at_ms, c.text), cmd.Done()
        if work.verb is Verb.SWITCHOVER and facts.phase is not Phase.STABLE:
            return refuse(facts, "too_late", "the handover has begun")
        if work.verb is Verb.SWITCHOVER:
            facts = replace(facts, switchover=None)
            facts = note(facts, at_ms=at_ms, kind="switchover.ended", text=c.text)
    return ended(facts, replace(work, text=c.text), c.state, at_ms, c.rule)


def ended(facts: Facts, work: Work, state: WorkState, at_ms: int, rule: int) -> Result:
    work = replace(work, state=state, node=None, ended_at_ms=at_ms, step=work.step + 1)
    why = f": {work.text}" if work.text else ""
    text = f"{work.what} is {state.value}{why}"
    facts = with_work(facts, work)
    return note(facts, at_ms=at_ms, kind="work.ended", text=text, rule=rule), cmd.Done()


# --- a switchover is work too --------------------------------------------------------------------


def switchover_asked(facts: Facts, c: cmd.RequestSwitchover, at_ms: int) -> Facts:
    """It is under way: one that was scheduled, or one that was asked for just now."""
    if facts.level < ACTIONS:
        return facts
    work = facts.upkeep.work(c.id)
    if work is None:
        nodes = (c.candidate,) if c.candidate is not None else ()
        work = Work(
            *(c.id, Verb.SWITCHOVER, nodes, c.requested_by),
            asked_at_ms=at_ms,
            term=term_of(facts),
        )
        facts = changed(facts, works=(*facts.upkeep.works, work))
    begun = replace(work, state=WorkState.RUNNING, stepped_at_ms=at_ms, step=work.step + 1)
    return with_work(facts, begun)


def settled(before: Facts, after: Facts, at_ms: int) -> Facts:
    """With the wish for a switchover its work ends: done with its term, or in vain."""
    wish = before.switchover
    if wish is None or after.switchover is not None:
        return after
    work = after.upkeep.work(wish.id)
    if work is None or not work.is_open or work.verb is not Verb.SWITCHOVER:
        return after
    is_done = before.handover is not None and after.phase is Phase.STABLE
    work = replace(work, text=after.notes[-1].text)
    return ended(after, work, WorkState.DONE if is_done else WorkState.FAILED, at_ms, 0)[0]


HANDLERS: dict[type, Callable[[Facts, Any, int], Result]] = {
    cmd.Pause: pause,
    cmd.Resume: resume,
    cmd.SetMaintenance: set_maintenance,
    cmd.EndMaintenance: end_maintenance,
    cmd.AskWork: ask_work,
    cmd.TakeInHand: take_in_hand,
    cmd.CrossOff: cross_off,
    cmd.EndWork: end_work,
    cmd.ForgetWork: forget_work,
}
