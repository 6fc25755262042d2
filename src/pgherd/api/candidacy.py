"""Why a node can or cannot become the primary now, and what would follow if a node were lost. Pure.

Owns the sentences. The conditions are the deciders' own, asked of what this node has heard: of a
planned switchover rule 601's, of an election rules 304 and 305's. What an elector hears later may
differ, so this is an answer about now.
"""

from __future__ import annotations

from typing import Literal

from pgherd.api import advice, views
from pgherd.api.shape import Model, NodeName
from pgherd.api.views import Seen
from pgherd.model.facts import Kind, Member, Mode, Phase
from pgherd.model.observation import Server
from pgherd.plan import handover
from pgherd.plan.look import fresh, ineligible, is_full, leader_report, least_room, streaming
from pgherd.plan.rule import Situation

Writes = Literal["go on", "go on after an election", "wait"]


class WhatIf(Model):
    """What would follow if a node were lost this moment. new_primary: null where nobody could."""

    lost: NodeName
    has_quorum: bool
    writes: Writes
    new_primary: NodeName | None
    why: str


class NodeExplanation(Model):
    """Whether a node can be made the primary by a switchover, and be elected; if not, why not."""

    node: NodeName
    role: str
    state: str
    is_primary: bool
    can_switch_over: bool
    why_not_switchover: str
    can_be_elected: bool
    why_not_elected: str
    if_lost: WhatIf | None
    as_of: int


def explanation(seen: Seen, member: Member, lost: Member | None) -> NodeExplanation:
    """Everything about one member."""
    s = situation(seen)
    planned, elected = not_by_switchover(seen, s, member), not_by_election(s, member)
    return NodeExplanation(
        node=member.node,
        role=views.role_of(seen.facts, member),
        state=views.state_of(seen, member),
        is_primary=views.is_primary(seen, member.node),
        can_switch_over=not planned,
        why_not_switchover=planned,
        can_be_elected=not elected,
        why_not_elected=elected,
        if_lost=what_if(seen, lost) if lost is not None else None,
        as_of=seen.raft.applied,
    )


def situation(seen: Seen) -> Situation:
    """What this node knows, as the deciders look at it."""
    return advice.look(seen.facts, seen.reports, me=seen.me, now=seen.now, fresh_ms=seen.fresh_ms)


def not_by_switchover(seen: Seen, s: Situation, member: Member) -> str:
    """Why a switchover to a member would be refused now; "" when it would not."""
    facts = seen.facts
    if member.kind is not Kind.DATA or not member.incarnation:
        return f"{member.node} holds no data"
    if facts.is_leader(member.node):
        return f"{member.node} is the primary"
    if not views.has_quorum(seen):
        return "there is no quorum"
    if facts.phase is not Phase.STABLE:
        return f"epoch {facts.term} is {facts.phase.value}"
    if facts.switchover is not None:
        return "a switchover is under way"
    report = leader_report(s)
    if report is None:
        return "the primary does not report"
    return handover.unfit(s, report, member.key)


def not_by_election(s: Situation, member: Member) -> str:
    """Why a member would not be elected if the primary were lost now; "" when it could be."""
    if member.kind is not Kind.DATA or not member.incarnation:
        return f"{member.node} holds no data"
    report = fresh(s, member.node)
    if report is None:
        return f"{member.node} does not report"
    if member.tags.nofailover:
        return f"{member.node} is tagged nofailover"
    if member.leaving:
        return f"{member.node} is to leave the cluster"
    if why := ineligible(s, member.node):
        return f"{member.node} must not lead: {why}"
    if is_full(s, member.node):
        return f"{member.node} has {least_room(s)}"
    if report.server.state not in (Server.STANDBY, Server.PRIMARY):
        return f"{member.node} runs no standby ({report.server.state.value})"
    return ""


def what_if(seen: Seen, lost: Member) -> WhatIf:
    """What would follow if this member were gone for good."""
    s = situation(seen)
    voting = [m for m in views.members(seen.facts) if m.raft_id in seen.raft.voters]
    alive = [m.node for m in voting if m.node != lost.node and fresh(s, m.node) is not None]
    has_quorum = len(alive) > len(voting) // 2
    if seen.facts.is_leader(lost.node):
        return without_primary(seen, s, lost, has_quorum=has_quorum)
    return without_replica(seen, s, lost, has_quorum=has_quorum)


def without_replica(seen: Seen, s: Situation, lost: Member, *, has_quorum: bool) -> WhatIf:
    """The primary stays; whether commits still find their copies."""
    facts, report = seen.facts, leader_report(s)
    primary = views.primary_of(seen)
    senders = streaming(report, facts.term) if report is not None else {}
    left = [key for key in facts.sync.names if key != lost.key and key in senders]
    writes: Writes = "go on"
    why = f"{primary} leads, and {len(left)} of {facts.sync.names_k} copies needed would stream"
    if primary is None or not views.can_write(seen):
        writes, why = "wait", "commits are not acknowledged now"
    elif len(left) < facts.sync.names_k:
        writes = "wait"
        degrades = facts.mode is Mode.QUORUM and has_quorum
        why += "; mode quorum does with fewer after replication.sync_timeout" if degrades else ""
    if not has_quorum:
        why += "; no quorum would be left: nobody could take over from it"
    return WhatIf(
        lost=lost.node, has_quorum=has_quorum, writes=writes, new_primary=primary, why=why
    )


def without_primary(seen: Seen, s: Situation, lost: Member, *, has_quorum: bool) -> WhatIf:
    """Whether an election could end without it, and on whom."""
    why = no_election(seen, s, lost, has_quorum=has_quorum)
    best = None if why else next_primary(seen, s, lost)
    if best is None:
        others = [m for m in views.data_members(seen.facts) if m.node != lost.node]
        unfit = "; ".join(not_by_election(s, m) for m in others if not_by_election(s, m))
        why = why or unfit or "no other member holds data"
    else:
        when = " once its lease is over" if seen.facts.mode is Mode.ASYNC else ""
        why = f"{best.node} would be elected{when}"
    return WhatIf(
        lost=lost.node,
        has_quorum=has_quorum,
        writes="go on after an election" if best is not None else "wait",
        new_primary=best.node if best is not None else None,
        why=why,
    )


def no_election(seen: Seen, s: Situation, lost: Member, *, has_quorum: bool) -> str:
    """Why no election would begin by itself, or could end; "" when one would."""
    facts = seen.facts
    if not has_quorum:
        return "no quorum would be left"
    if facts.upkeep.pause is not None:
        return facts.upkeep.pause.sentence
    if not seen.failover_enabled:
        return "failover.enabled is false"
    if facts.mode is Mode.ASYNC:
        return ""
    voters = [key for key in facts.sync.voters if fresh(s, key.node) is not None]
    if not facts.sync.voters:
        return f"only {lost.node} may hold everything: there is no synchronous standby"
    if len(voters) < facts.sync.r:
        return f"{len(voters)} of {facts.sync.r} synchronous standbys needed would be there"
    return ""


def next_primary(seen: Seen, s: Situation, lost: Member) -> Member | None:
    """Who is furthest of those who may lead; among equals the highest priority."""
    report = leader_report(s)
    senders = streaming(report, seen.facts.term) if report is not None else {}

    def preference(member: Member) -> tuple[int, int, str]:
        sender = senders.get(member.key)
        reached = sender.flush_lsn if sender is not None else 0
        return -reached, -member.tags.failover_priority, member.node

    able = [
        member
        for member in views.data_members(seen.facts)
        if member.node != lost.node and not not_by_election(s, member)
    ]
    return min(able, key=preference, default=None)
