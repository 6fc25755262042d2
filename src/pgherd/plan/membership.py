"""Rules 701-705 and 801: data directories, Raft membership, and where Raft leadership sits.

A member leaves in steps, each only after the one before: out of the sync set (506 or 502), Raft
leadership handed on, out of consensus, out of the ledger. The leader that removes itself from two
voters would leave the other one stuck (tests/data/raft/two-to-one.txt), so it never does.
"""

from __future__ import annotations

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import counted
from pgherd.ledger.syncset import stands_for_data
from pgherd.model.facts import Member, Phase
from pgherd.model.ids import NodeId, RaftId
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
        if report.raft_id != member.raft_id:
            continue  # said before it was re-admitted: of a copy that counts for nothing now
        if member.incarnation and counted(facts, member.key):
            continue
        reason = f"{node} has data directory {incarnation}"
        return Decision(701, reason, cmd.RegisterIncarnation(node, incarnation))
    return None


def in_consensus(s: Situation, member: Member) -> bool:
    return member.raft_id in (*s.view.raft_voters, *s.view.raft_learners)


def new_learner(s: Situation) -> Decision | None:
    for node, member in sorted(s.facts.members.items()):
        if not member.leaving and not in_consensus(s, member):
            change = Membership("learner", member.raft_id)
            return Decision(702, f"{node} becomes a Raft learner", membership=change)
    return None


def new_voter(s: Situation) -> Decision | None:
    for node, member in sorted(s.facts.members.items()):
        waits = member.raft_id in s.view.raft_learners and member.voter and not member.leaving
        if waits and member.raft_id in s.view.caught_up and fresh(s, node) is not None:
            change = Membership("voter", member.raft_id)
            return Decision(703, f"{node} has caught up and votes", membership=change)
    return None


def leave_consensus(s: Situation) -> Decision | None:
    """One leaving member goes out of the Raft configuration, led by somebody who stays."""
    if s.facts.phase is not Phase.STABLE:
        return None
    for node, member in sorted(s.facts.members.items()):
        if not member.leaving or not in_consensus(s, member):
            continue
        if stands_for_data(s.facts, node):
            return Decision(704, f"waits until {node} has left the sync set")
        if node == s.view.me:
            return hand_on(s)
        missing = missing_voters(s, member.raft_id)
        if missing:
            return Decision(
                704, f"{node} stays for now: without it {missing} voters more must answer"
            )
        change = Membership("remove", member.raft_id)
        return Decision(704, f"{node} leaves consensus", membership=change)
    return None


def hand_on(s: Situation) -> Decision:
    """A leaving Raft leader hands over first."""
    heir = successor(s) or successor(s, primary_too=True)
    if heir is None:
        return Decision(704, f"{s.view.me} leads consensus, and no other voter has caught up")
    return Decision(704, f"Raft leadership moves off the leaving node to {heir}", transfer_to=heir)


def missing_voters(s: Situation, leaving: RaftId) -> int:
    """How many voters short of a majority we would be right after this one is gone."""
    left = [raft_id for raft_id in s.view.raft_voters if raft_id != leaving]
    answering = sum(
        member.raft_id in left and fresh(s, node) is not None
        for node, member in s.facts.members.items()
    )
    return max(0, len(left) // 2 + 1 - answering)


def forget(s: Situation) -> Decision | None:
    if s.facts.phase is not Phase.STABLE:
        return None
    for node, member in sorted(s.facts.members.items()):
        counts = stands_for_data(s.facts, node)
        if member.leaving and not in_consensus(s, member) and not counts:
            command = cmd.RemoveMember(node, member.raft_id)
            return Decision(705, f"{node} is no member any more", command)
    return None


def successor(s: Situation, *, primary_too: bool = False) -> NodeId | None:
    """A voter that stays, answers and has caught up; not the primary unless it must be."""
    for node, member in sorted(s.facts.members.items()):
        fits = member.raft_id in s.view.raft_voters and member.raft_id in s.view.caught_up
        if node == s.view.me or member.leaving or not fits or fresh(s, node) is None:
            continue
        if primary_too or not s.facts.is_leader(node):
            return node
    return None


def move_raft_leadership(s: Situation) -> Decision | None:
    """One crash should not cost two elections."""
    facts = s.facts
    if facts.phase is not Phase.STABLE or not facts.is_leader(s.view.me):
        return None
    if s.now - max(s.view.phase_since, s.view.since) < QUIET_BEFORE_TRANSFER_MS:
        return None
    heir = successor(s)
    if heir is None:
        return None
    return Decision(801, f"Raft leadership moves off the primary to {heir}", transfer_to=heir)


RULES = (
    HerdRule(
        701, "A new data directory is registered once the old one counts nowhere.", new_incarnation
    ),
    HerdRule(702, "A new member starts as a Raft learner.", new_learner),
    HerdRule(703, "A learner that has caught up becomes a voter.", new_voter),
    HerdRule(
        704,
        "A leaving member that counts for no commit leaves consensus, if the rest can go on.",
        leave_consensus,
    ),
    HerdRule(705, "A leaving member that is out of consensus is forgotten.", forget),
    HerdRule(801, "Raft leadership moves to a node other than the primary.", move_raft_leadership),
)
