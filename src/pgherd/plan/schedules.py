"""Rules 1110-1115: what was scheduled, when it is due; and maintenance, from its way in to its end.

Work that is due begins once, whoever leads consensus then: its place in the ledger says whether it
has. What would be refused if it were asked for now fails instead, with the reason, for nobody is
there who could answer. Times are the Raft leader's wall clock, as in `upkeep`. Pure.
"""

from __future__ import annotations

from pgherd.ledger import commands as cmd
from pgherd.model.upkeep import Verb, Work, WorkState
from pgherd.plan.look import fresh
from pgherd.plan.readiness import cannot_begin
from pgherd.plan.rule import Decision, HerdRule, Situation
from pgherd.plan.tending import counts_on
from pgherd.plan.upkeep import current, due, next_node

GRACE_MS = 15_000
"""How long a standby may be missing, or another thing be amiss that passes, when work is due."""
LATE_MS = 600_000
"""Work that cannot begin for so long is not wanted any more: who asked expects it at its time."""


def end(work: Work, state: WorkState, text: str, rule: int) -> Decision:
    reason = f"{work.what} is {state.value}: {text}"
    return Decision(rule, reason, cmd.EndWork(id=work.id, state=state, text=text, rule=rule))


# --- 1111: it cannot be ---------------------------------------------------------------------------


def fails_when_due(s: Situation) -> Decision | None:
    waits: Decision | None = None
    for work in s.facts.upkeep.scheduled():
        late_ms = s.view.unix_ms - work.not_before_ms
        if late_ms < 0:
            break
        why, passes = cannot_begin(s, work)
        if why and not (passes and late_ms < GRACE_MS):
            return end(work, WorkState.FAILED, why, 1111)
        if late_ms >= LATE_MS:
            text = f"it could not begin for {LATE_MS // 60_000} min after it was due"
            return end(work, WorkState.FAILED, text, 1111)
        if why:
            waits = waits or Decision(1111, f"{work.what} is due and waits: {why}")
    return waits


# --- 1110: it begins ------------------------------------------------------------------------------


def begins_switchover(s: Situation) -> Decision | None:
    for work in due(s):
        if work.verb is Verb.SWITCHOVER and work.state is WorkState.PENDING:
            wish = cmd.RequestSwitchover(
                id=work.id,
                candidate=work.nodes[0] if work.nodes else None,
                requested_by=work.requested_by,
            )
            return Decision(1110, f"{work.what}, asked for by {work.requested_by}, is due", wish)
    return None


def passed_over(s: Situation) -> Decision | None:
    for work in current(s):
        node = next_node(s, work) if work.only_pending and work.node is None else None
        report = fresh(s, node) if node is not None else None
        if report is not None and not report.server.pending:
            reason = f"{node} waits for no restart"
            passes = cmd.CrossOff(id=work.id, step=work.step, rule=1114, passes=node)
            return Decision(1114, reason, passes)
    return None


# --- maintenance ----------------------------------------------------------------------------------


def maintenance_ends(s: Situation) -> Decision | None:
    for node, care in s.facts.upkeep.maintenance.items():
        if care.until_ms and s.view.unix_ms >= care.until_ms:
            reason = f"the maintenance of {node} asked for by {care.requested_by} is over"
            over = cmd.EndMaintenance(node=node, since_ms=care.since_ms, reason=reason, rule=1112)
            return Decision(1112, reason, over)
    return None


def rests(s: Situation) -> Decision | None:
    for work in s.facts.upkeep.open_works():
        if work.verb is not Verb.MAINTENANCE:
            continue
        node = work.nodes[0]
        member = s.facts.members.get(node)
        if member is None:
            return end(work, WorkState.FAILED, f"{node} is no member any more", 1113)
        if not counts_on(s.facts, member.key):
            return end(work, WorkState.DONE, f"no commit counts on {node}", 1113)
    return None


def forgotten(s: Situation) -> Decision | None:
    for work in s.facts.upkeep.open_works():
        is_begun = work.verb is Verb.SWITCHOVER and work.state is WorkState.RUNNING
        if is_begun and s.facts.switchover is None:
            return end(work, WorkState.FAILED, "it was given up", 1115)
    return None


RULES = (
    HerdRule(
        1111, "What is due and could not be asked for now fails, with the reason.", fails_when_due
    ),
    HerdRule(1110, "A switchover that is due is asked for.", begins_switchover),
    HerdRule(1114, "A node that waits for no restart is passed over, where asked.", passed_over),
    HerdRule(1112, "Maintenance ends when its time is over.", maintenance_ends),
    HerdRule(1113, "A node is in maintenance once no commit counts on it.", rests),
    HerdRule(1115, "A switchover that nothing knows of any more has failed.", forgotten),
)
