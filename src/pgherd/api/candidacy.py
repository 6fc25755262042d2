"""Why a node can or cannot become the primary now. Pure.

Whether it can is the deciders' own answer: the switchover, or the loss of the primary, is rehearsed
(`plan.rehearsal`). Owns the sentence for people where it cannot, as far as it is about this node;
else it is what the deciders wait for. What an elector hears later may differ: this is about now.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from pgherd.api import advice, views
from pgherd.api.explainschema import Candidacy
from pgherd.api.views import Seen
from pgherd.model.facts import Kind, Member, Phase
from pgherd.model.ids import NodeId
from pgherd.model.observation import Server
from pgherd.plan import handover, rehearsal
from pgherd.plan.look import fresh, ineligible, is_full, leader_report, least_room
from pgherd.plan.rehearsal import Known, Rehearsal
from pgherd.plan.rule import Situation
from pgherd.plan.standbycluster import no_primary


def known(seen: Seen) -> Known:
    """What this node knows, for a rehearsal."""
    return Known(
        facts=seen.facts,
        reports=seen.reports,
        policy=seen.policy,
        now=seen.now,
        unix_ms=seen.unix_ms,
        raft_leader=seen.raft.leader,
        raft_voters=seen.raft.voters,
        raft_learners=seen.raft.learners,
    )


def candidacy(seen: Seen, member: Member) -> Candidacy:
    """Whether one member can take over, by either way."""
    planned, elected = not_by_switchover(seen, member), not_by_election(seen, member)
    return Candidacy(
        node=member.node,
        is_primary=views.is_primary(seen, member.node),
        can_switch_over=not planned,
        why_not_switchover=planned,
        can_be_elected=not elected,
        why_not_elected=elected,
    )


def situation(seen: Seen) -> Situation:
    """What this node knows, as the deciders look at it: by the settings in force."""
    detect_ms = seen.policy.detect_ms
    s = advice.look(seen.facts, seen.reports, me=seen.me, now=seen.now, fresh_ms=detect_ms)
    return msgspec.structs.replace(s, policy=seen.policy)


def not_by_switchover(seen: Seen, member: Member) -> str:
    """Why a switchover to a member would be refused now; "" when it would not."""
    if why := why_no_switchover(seen, member.node):
        return why
    played = rehearsal.if_switched(known(seen), member.node)
    if played.primary == member.node and played.switches:
        return ""
    return why_not_planned(played)


def why_not_planned(played: Rehearsal) -> str:
    """Why what was rehearsed is no switchover: what would be decided in its place."""
    if played.primary is None or played.switches or not played.steps:
        return played.why
    return f"{played.steps[0].reason}: {played.primary} leads after an election"


def why_no_switchover(seen: Seen, node: NodeId | None) -> str:
    """What is in the way of a switchover, to a member if one is named; "" where nothing is seen."""
    facts = seen.facts
    if why := no_primary(facts):
        return why
    member = facts.members.get(node) if node is not None else None
    if member is not None and not holds_data(member):
        return f"{node} holds no data"
    if member is not None and facts.is_leader(member.node):
        return f"{node} is the primary"
    if not views.has_quorum(seen):
        return "there is no quorum"
    if facts.phase is not Phase.STABLE:
        return f"epoch {facts.term} is {facts.phase.value}"
    if facts.switchover is not None:
        return "a switchover is under way"
    s = situation(seen)
    report = leader_report(s)
    if report is None:
        return "the primary does not report"
    return handover.unfit(s, report, member.key) if member is not None else ""


def not_by_election(seen: Seen, member: Member) -> str:
    """Why a member would not be elected if the primary were lost now; "" when it could be.

    Were it the only one that may lead: who is full or leaves comes after others, and can all the
    same. Of the primary itself: whether it could go on after an election.
    """
    if why := no_primary(seen.facts):
        return why
    own, leader = own_reason(situation(seen), member), seen.facts.leader
    if leader is None or leader.node == member.node:
        return own
    played = rehearsal.if_alone_able(known(seen), [leader.node], member.node)
    return "" if played.primary == member.node else own or played.why


def own_reason(s: Situation, member: Member) -> str:
    """What speaks against a member as it is; "" where nothing does."""
    if not holds_data(member):
        return f"{member.node} holds no data"
    report = fresh(s, member.node)
    if report is None:
        return f"{member.node} does not report"
    if why := handover.unwanted(member):
        return why
    if why := ineligible(s, member.node):
        return f"{member.node} must not lead: {why}"
    if is_full(s, member.node):
        return f"{member.node} has {least_room(s)}"
    if report.server.state not in (Server.STANDBY, Server.PRIMARY):
        return f"{member.node} runs no standby ({report.server.state.value})"
    return ""


def holds_data(member: Member) -> bool:
    """Whether there is anything on it to lead with."""
    return member.kind is Kind.DATA and bool(member.incarnation)


def unfit(seen: Seen, lost: Collection[NodeId]) -> str:
    """Why none of those who would be left could lead, as far as it is about them."""
    s = situation(seen)
    left = [one for one in views.data_members(seen.facts) if one.node not in lost]
    return "; ".join(why for one in left if (why := own_reason(s, one)))
