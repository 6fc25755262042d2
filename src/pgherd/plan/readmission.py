"""Rules 716-718: which Raft store a member has, and its way back after it lost that store.

A node with amnesia takes no part and asks to be re-admitted. It is first done without (its old
incarnation leaves the sync set by 506), then given a new Raft id (717), under which it learns (702)
and votes (703) as a newcomer does; what its old id leaves behind in consensus goes with 718.
"""

from __future__ import annotations

from pgherd.ledger import commands as cmd
from pgherd.ledger.readmission import cannot_readmit
from pgherd.ledger.syncset import stands_for_data
from pgherd.model.facts import Member
from pgherd.model.ids import NodeId
from pgherd.plan.look import fresh, leader_report, streaming
from pgherd.plan.membership import short_of_majority, without
from pgherd.plan.rule import Decision, HerdRule, Membership, Situation


def unknown_store(s: Situation) -> Decision | None:
    for node, member in sorted(s.facts.members.items()):
        report = fresh(s, node)
        if member.store or report is None or report.raft_id != member.raft_id:
            continue
        if report.store_incarnation:
            command = cmd.RegisterStore(node, member.raft_id, report.store_incarnation)
            return Decision(716, f"{node} has Raft store {report.store_incarnation}", command)
    return None


def readmit(s: Situation) -> Decision | None:
    waits: Decision | None = None
    for node, asked in sorted(s.view.asking.items()):
        member = s.facts.members.get(node)
        if member is not None and member.store == asked.store:
            continue
        why = obstacle(s, node)
        if why:
            waits = waits or Decision(717, f"{node} has amnesia: {why}")
            continue
        assert member is not None, "an unknown node is an obstacle"
        command = cmd.Readmit(node, member.raft_id, asked.store)
        return Decision(717, f"{node} has amnesia and is re-admitted", command)
    return waits


def obstacle(s: Situation, node: NodeId) -> str:
    """Why a node that asks cannot be re-admitted now; "" when it can."""
    member, asked = s.facts.members.get(node), s.view.asking[node]
    if member is None:
        return f"{node} is no member of this cluster"
    if asked.raft_id and asked.raft_id != member.raft_id:
        return (
            f"it was Raft id {asked.raft_id}, and {node} is {member.raft_id} now: it was removed, "
            "or its place was taken"
        )
    report = fresh(s, node)
    if report is not None and report.raft_id == member.raft_id:
        return f"a daemon that calls itself {node} reports as Raft id {member.raft_id}"
    refused = cannot_readmit(s.facts, cmd.Readmit(node, member.raft_id, asked.store))
    if refused is not None:
        return refused.reason
    if can_do_without(s, member):
        return f"commits can do without {node}; it leaves the sync set first"
    return ""


def can_do_without(s: Situation, member: Member) -> bool:
    """Whether it is in the sync set, and the others are enough for k.

    While it is counted, an election may need what nobody can ask of it any more. Where it is
    needed for k it is re-admitted all the same: its new incarnation then takes its place.
    """
    report, sync = leader_report(s), s.facts.sync
    if report is None or not stands_for_data(s.facts, member.node):
        return False
    there = streaming(report, s.facts.term)
    others = [key for key in sync.names if key.node != member.node and key in there]
    return len(others) >= max(1, sync.names_k)


def leave_nobody_behind(s: Situation) -> Decision | None:
    """A Raft id without a member leaves the configuration, if the rest can go on."""
    known = {member.raft_id for member in s.facts.members.values()}
    for raft_id in (*s.view.raft_voters, *s.view.raft_learners):
        if raft_id in known or not s.facts.was_removed(raft_id):
            continue
        missing = short_of_majority(s, without(s, raft_id))
        if missing:
            return Decision(
                718,
                f"Raft id {raft_id} stays for now: without it {missing} voters more must answer",
            )
        change = Membership("remove", raft_id)
        return Decision(718, f"Raft id {raft_id} is nobody's and leaves", membership=change)
    return None


RULES = (
    HerdRule(716, "Which Raft store a member has is written down once.", unknown_store),
    HerdRule(
        717,
        "A member with amnesia gets a new Raft id, once nothing counts on what it forgot.",
        readmit,
    ),
    HerdRule(
        718,
        "A Raft id that is nobody's leaves consensus, if the rest can go on.",
        leave_nobody_behind,
    ),
)
