"""Rules 701-704 and 801: data directories, Raft membership, and where Raft leadership sits."""

from __future__ import annotations

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import counted
from pgherd.model.facts import Phase
from pgherd.plan.look import fresh
from pgherd.plan.rule import Decision, HerdRule, Membership, Situation

QUIET_BEFORE_TRANSFER_MS = 2000


def new_incarnation(s: Situation) -> Decision | None:
    facts = s.facts
    if not facts.system_id:
        return None
    for node, member in sorted(facts.members.items()):
        report = fresh(s, node)
        if report is None or report.server.system_id != facts.system_id:
            continue
        incarnation = report.promises.incarnation
        if not incarnation or incarnation == member.incarnation:
            continue
        if member.incarnation and counted(facts, member.key):
            continue
        reason = f"{node} has data directory {incarnation}"
        return Decision(701, reason, cmd.RegisterIncarnation(node, incarnation))
    return None


def new_learner(s: Situation) -> Decision | None:
    known = {*s.view.raft_voters, *s.view.raft_learners}
    for node, member in sorted(s.facts.members.items()):
        if member.raft_id not in known:
            change = Membership("learner", member.raft_id)
            return Decision(702, f"{node} becomes a Raft learner", membership=change)
    return None


def new_voter(s: Situation) -> Decision | None:
    for node, member in sorted(s.facts.members.items()):
        waits = member.raft_id in s.view.raft_learners and member.voter
        if waits and member.raft_id in s.view.caught_up and fresh(s, node) is not None:
            change = Membership("voter", member.raft_id)
            return Decision(703, f"{node} has caught up and votes", membership=change)
    return None


def move_raft_leadership(s: Situation) -> Decision | None:
    """One crash should not cost two elections."""
    facts = s.facts
    if facts.phase is not Phase.STABLE or not facts.is_leader(s.view.me):
        return None
    if s.now - max(s.view.phase_since, s.view.since) < QUIET_BEFORE_TRANSFER_MS:
        return None
    for node, member in sorted(facts.members.items()):
        fits = member.raft_id in s.view.raft_voters and member.raft_id in s.view.caught_up
        if node != s.view.me and fits and fresh(s, node) is not None:
            return Decision(
                801, f"Raft leadership moves off the primary to {node}", transfer_to=node
            )
    return None


RULES = (
    HerdRule(
        701, "A new data directory is registered once the old one counts nowhere.", new_incarnation
    ),
    HerdRule(702, "A new member starts as a Raft learner.", new_learner),
    HerdRule(703, "A learner that has caught up becomes a voter.", new_voter),
    HerdRule(801, "Raft leadership moves to a node other than the primary.", move_raft_leadership),
)
