"""Rules 201-206: when a term must end (PROTOCOL.md 5, Trigger).

Wrong suspicion costs a short write stall, never consistency.
"""

from __future__ import annotations

from pgherd.ledger import commands as cmd
from pgherd.ledger.readmission import cannot_readmit
from pgherd.model.facts import Phase
from pgherd.model.observation import Observation, Server
from pgherd.plan.look import (
    REPORTED_DEAD,
    age_ms,
    fresh,
    observers_needed,
    silent_observers,
)
from pgherd.plan.rule import Decision, HerdRule, Situation

BY_SILENCE = (203, 204)
"""The rules that end a term because somebody is not heard: its leader, or its elector."""
NOT_ESTABLISHED = 402
"""The rule that ends a term which nobody could establish (`establishing`)."""


def begin(s: Situation, rule: int, reason: str) -> Decision:
    command = cmd.Begin(expected=s.facts.term, elector=s.view.me, rule=rule, reason=reason)
    return Decision(rule, reason, command)


def held_back(s: Situation) -> str:
    """Why no term ends by itself; "" when it may. What has begun in a pause is carried through."""
    if not s.policy.failover_enabled:
        return "failover is disabled"
    pause = s.facts.upkeep.pause
    return pause.sentence if pause is not None and s.facts.phase is Phase.STABLE else ""


def operator_order(s: Situation) -> Decision | None:
    if s.facts.forced is None or s.facts.phase is not Phase.STABLE:
        return None
    return begin(s, 201, f"failover ordered by {s.facts.forced.requested_by}")


def reported_dead(s: Situation) -> Decision | None:
    facts = s.facts
    if facts.phase not in (Phase.STABLE, Phase.ESTABLISHING) or facts.leader is None:
        return None
    report = fresh(s, facts.leader.node)
    if report is None:
        return forgot(s)
    node, state = facts.leader.node, report.server.state
    dead = state in REPORTED_DEAD or report.promises.incarnation != facts.leader.incarnation
    position = report.server.position
    promoted = facts.phase is Phase.STABLE or (
        position is not None and position.epoch == facts.term
    )
    demoted = promoted and state is Server.STANDBY
    moved = moved_since(s, report)
    if not dead and not demoted and not moved:
        return None
    if why := held_back(s):
        return Decision(202, f"{node} reports its server {state.value}; {why}")
    if report.server.writes_hang and not others_may_lead(s):
        return Decision(202, f"{node} cannot write, and nobody else may lead: waits for its disk")
    if moved:
        return begin(s, 202, f"{node} is not any more what was elected: its server restarted")
    return begin(s, 202, f"{node} reports its own server {state.value}")


def moved_since(s: Situation, report: Observation) -> bool:
    """Whether an elected leader's server restarted before the election was heard there.

    One that was to go on as primary may not be promoted instead, for then its timeline would be of
    no term, and one that recovered to another end may not lead from there. Only a report of after
    the election tells; what it says of the time before is what it was elected for.
    """
    facts, frozen = s.facts, report.promises.frozen
    if facts.phase is not Phase.ESTABLISHING or report.server.state is not Server.STANDBY:
        return False
    reign = facts.history[-1]
    if s.view.reports[reign.leader.node].at <= s.view.phase_since:
        return False
    if not reign.promoted:
        return True
    if report.promises.adopted >= facts.term:  # it is being promoted
        return False
    return frozen is None or frozen.term != facts.term or frozen.position != reign.start


def others_may_lead(s: Situation) -> bool:
    """Whether enough voters run, so that an election can do without the leader.

    To end a server whose disk hangs helps nobody but them: it could write no sooner than now.
    """
    reports = [(key, fresh(s, key.node)) for key in s.facts.sync.voters]
    running = [
        key
        for key, report in reports
        if report is not None and report.server.state is Server.STANDBY
    ]
    return bool(running) and len(running) >= s.facts.sync.r


def forgot(s: Situation) -> Decision | None:
    """A leader that asks to be re-admitted can do nothing for its term.

    It cannot be re-admitted while it leads, unless only its copy has everything.
    """
    leader = s.facts.leader
    asked = s.view.asking.get(leader.node) if leader is not None else None
    member = s.facts.member(leader) if leader is not None else None
    if asked is None or member is None or asked.store == member.store:
        return None
    if asked.raft_id not in (0, member.raft_id):
        return None
    refused = cannot_readmit(s.facts, cmd.Readmit(member.node, member.raft_id, asked.store))
    if refused is None or refused.code != "is_leader":
        return None
    if why := held_back(s):
        return Decision(202, f"{member.node} has lost its Raft store; {why}")
    return begin(s, 202, f"{member.node} has lost its Raft store")


def silent(s: Situation) -> Decision | None:
    facts = s.facts
    if facts.phase not in (Phase.STABLE, Phase.ESTABLISHING) or facts.leader is None:
        return None
    node = facts.leader.node
    if node == s.view.me or age_ms(s, node) < s.policy.detect_ms:
        return None
    observers = silent_observers(s, node)
    if len(observers) < observers_needed(s, node):
        return Decision(203, f"{node} is silent here, but not yet for a second observer")
    if why := held_back(s):
        return Decision(203, f"{node} is silent; {why}")
    if facts.phase is Phase.STABLE and suspected_lately(s):
        return Decision(
            203,
            f"{node} is silent, but was suspected less than "
            f"{s.policy.minimum_interval_ms // 1000} s ago",
        )
    who = " and ".join(observers)
    return begin(s, 203, f"{node} is silent for {who}")


def suspected_lately(s: Situation) -> bool:
    """Whether silence of this same node ended its last reign within the minimum interval."""
    leader = s.facts.leader
    if leader is None:
        return False
    for before, after in zip(s.facts.history, s.facts.history[1:], strict=False):
        lately = 0 <= s.view.unix_ms - after.began_at_ms < s.policy.minimum_interval_ms
        if before.leader.node == leader.node and after.rule == 203 and lately:
            return True
    return False


def elector_gone(s: Situation) -> Decision | None:
    facts = s.facts
    if facts.phase is not Phase.ELECTING or facts.elector == s.view.me:
        return None
    return begin(s, 204, f"{facts.elector} began term {facts.term} and is not elector any more")


RULES = (
    HerdRule(201, "An operator's order to fail over begins a term.", operator_order),
    HerdRule(
        202,
        "A leader that reports its own server dead, its Raft store lost, or its server restarted"
        " before it heard of its election, loses the term at once.",
        reported_dead,
    ),
    HerdRule(
        203,
        "A leader that two observers have not heard for the detection time loses the term.",
        silent,
    ),
    HerdRule(
        204, "An election whose elector is gone is begun anew under the next term.", elector_gone
    ),
)
