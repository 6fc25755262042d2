"""The state machine: facts + command -> facts + outcome. Reads no clock and draws no chance.

A refusal leaves the facts as they were. Where a command would break the sync-set inequality it is
refused here even if a decider proposed it: the ledger is the last gate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger import (
    fencing,
    forward,
    giving,
    leases,
    levels,
    modes,
    passwords,
    readmission,
    switching,
    syncset,
)
from pgherd.ledger.drills import HANDLERS as DRILLS
from pgherd.ledger.outcome import Result, note, refuse
from pgherd.ledger.pgconfig import end_trial, fail_config, set_config
from pgherd.ledger.rights import HANDLERS as RIGHTS
from pgherd.ledger.slots import HANDLERS as SLOTS
from pgherd.ledger.standbycluster import HANDLERS as STANDBY_CLUSTER
from pgherd.ledger.upkeep import HANDLERS as UPKEEP
from pgherd.ledger.upkeep import settled
from pgherd.model.facts import (
    MAX_VOTERS_MOST,
    Facts,
    Forced,
    Kind,
    Member,
    Mode,
    Phase,
    Reign,
    SyncState,
)
from pgherd.model.ids import MemberKey, NodeId, RaftId, Term

HISTORY_MAX = 500

replace = msgspec.structs.replace


def apply_command(facts: Facts, command: cmd.AnyCommand, *, at_ms: int) -> Result:
    """Apply one command. at_ms is the proposer's wall clock and is only recorded."""
    needed = levels.needed_level(command)
    if needed > facts.level:
        return refuse(facts, "too_new", f"the ledger is at level {facts.level}, not yet {needed}")
    handler: Callable[[Facts, Any, int], Result] = HANDLERS[type(command)]
    after, outcome = handler(facts, command, at_ms)
    return settled(facts, after, at_ms), outcome


def choose_founder(facts: Facts, c: cmd.ChooseFounder, at_ms: int) -> Result:
    if facts.founder is not None or facts.system_id:
        return refuse(facts, "already", f"{facts.founder} is the founder")
    if c.node not in facts.members:
        return refuse(facts, "unknown_node", f"{c.node} is no member")
    facts = replace(facts, founder=c.node)
    text = f"{c.node} makes the cluster"
    return note(facts, at_ms=at_ms, kind="founder.chosen", text=text), cmd.Done()


def born(facts: Facts, c: cmd.Born, at_ms: int) -> Result:
    if facts.system_id:
        return refuse(facts, "already", f"the cluster has system identifier {facts.system_id}")
    if facts.founder != c.node:
        return refuse(facts, "not_founder", f"{facts.founder} is the founder, not {c.node}")
    member = replace(facts.members[c.node], incarnation=c.incarnation)
    facts = replace(
        facts,
        system_id=c.system_id,
        major=c.major,
        members={**facts.members, c.node: member},
        sync=SyncState(voters=(member.key,), r=1),
    )
    text = f"system identifier {c.system_id}, PostgreSQL {c.major}"
    return note(facts, at_ms=at_ms, kind="cluster.born", text=text), cmd.Done()


def begin(facts: Facts, c: cmd.Begin, at_ms: int) -> Result:
    if not facts.system_id:
        return refuse(facts, "unborn", "there is no cluster yet")
    if c.expected != facts.term:
        return refuse(facts, "stale", f"the term is {facts.term}, not {c.expected}")
    undone = facts.switchover if c.handover is None else None
    term = Term(max(facts.term, c.above) + 1)
    facts = replace(
        facts,
        term=term,
        phase=Phase.ELECTING,
        elector=c.elector,
        handover=c.handover,
        switchover=None if undone else facts.switchover,
        forced=None if facts.phase is Phase.ELECTING else facts.forced,
        given_up=None,
        forward=None,
        rule=c.rule,
        reason=c.reason,
        began_at_ms=at_ms,
    )
    if undone is not None:
        text = f"switchover {undone.id} given up: {c.reason}"
        facts = note(facts, at_ms=at_ms, kind="switchover.undone", text=text)
    return note(facts, at_ms=at_ms, kind="term.begun", text=c.reason, rule=c.rule), cmd.Done()


def wrong_election(facts: Facts, term: Term, elector: NodeId) -> str:
    if facts.phase is not Phase.ELECTING or facts.term != term or facts.elector != elector:
        return f"term {facts.term} is {facts.phase.value} by {facts.elector}"
    return ""


def drained(facts: Facts, c: cmd.Drained, at_ms: int) -> Result:
    why = wrong_election(facts, c.term, c.elector)
    if why or facts.handover is None:
        return refuse(facts, "stale", why or "no handover is under way")
    return replace(facts, handover=replace(facts.handover, drained=c.position)), cmd.Done()


def elect(facts: Facts, c: cmd.Elect, at_ms: int) -> Result:
    """F5. R' = |V'| - min(kd, k') + 1: kd is carried through every unfinished term."""
    why = wrong_election(facts, c.term, c.elector)
    if why:
        return refuse(facts, "stale", why)
    if facts.member(c.winner) is None:
        return refuse(facts, "unknown_node", f"{c.winner} is no member with that incarnation")
    if c.winner in c.voters or (c.k > 0) != bool(c.voters):
        return refuse(facts, "invalid", "the winner cannot vote for itself, and V needs a k")
    if c.voters and facts.mode is Mode.ASYNC:
        return refuse(facts, "unsafe", modes.NO_VOTERS)
    why, loss = giving.cannot_lose(facts, c), giving.told(facts, c)
    if why:
        return refuse(facts, "unsafe", why)
    first = not facts.history
    kd = c.k if first else min(facts.sync.kd, c.k)
    needed = len(c.voters) - kd + 1 if c.voters else 0
    reign = Reign(
        term=c.term,
        leader=c.winner,
        start=c.start,
        promoted=c.promoted,
        rule=facts.rule,
        reason=f"{facts.reason}; {loss}" if loss else facts.reason,
        began_at_ms=facts.began_at_ms,
        lost_bytes=c.lost_bytes,
        gave_up=c.lost,
    )
    facts = replace(
        facts,
        phase=Phase.ESTABLISHING,
        leader=c.winner,
        sync=SyncState(voters=c.voters, k=c.k, kd=kd, r=needed, generation=facts.sync.generation),
        history=(*facts.history, reign)[-HISTORY_MAX:],
        rule=c.rule,
        reason=c.reason,
        lease=leases.elected(facts.lease, c),
        given_up=None,
        forward=None,
        unsealed=c.unsealed,
    )
    if loss:
        facts = note(facts, at_ms=at_ms, kind="data.loss-accepted", text=loss, rule=c.rule)
    facts = note(facts, at_ms=at_ms, kind="leader.elected", text=c.reason, rule=c.rule)
    return keep_winner(facts, c.winner.node, at_ms), cmd.Done()


def keep_winner(facts: Facts, node: NodeId, at_ms: int) -> Facts:
    """A leaving member that had to be elected stays: it may be the only one with everything."""
    member = facts.members[node]
    if not member.leaving:
        return facts
    stays = replace(member, leaving=False)
    facts = replace(facts, members={**facts.members, node: stays})
    text = f"{node} was elected and does not leave any more"
    return note(facts, at_ms=at_ms, kind="member.stays", text=text)


def establish(facts: Facts, c: cmd.Establish, at_ms: int) -> Result:
    if facts.phase is not Phase.ESTABLISHING or facts.term != c.term:
        return refuse(facts, "stale", f"term {facts.term} is {facts.phase.value}")
    old = facts.sync
    if not set(c.names) <= set(old.voters) or len(c.names) < old.k:
        return refuse(facts, "invalid", "the names must be at least k of the voters")
    sync = replace(
        old,
        kd=old.k,
        r=syncset.seal_count(len(old.voters), old.k),
        names=c.names,
        names_k=old.k,
        generation=old.generation + 1,
        in_use=(),
    )
    why = syncset.broken_rule(sync)
    if why:
        return refuse(facts, "unsafe", why)
    reign = replace(
        facts.history[-1], established=True, timeline=c.timeline, established_at_ms=at_ms
    )
    facts = replace(
        facts,
        phase=Phase.STABLE,
        sync=sync,
        history=(*facts.history[:-1], reign),
        switchover=None,
        handover=None,
        forced=None,
        unsealed=(),
        rule=reign.rule,
        reason=reign.reason,
        lease=modes.lease_established(facts, sync),
    )
    text = f"{reign.leader.node} leads on timeline {c.timeline}: {reign.reason}"
    return note(facts, at_ms=at_ms, kind="term.established", text=text), cmd.Done()


def change_sync(facts: Facts, c: cmd.ChangeSync, at_ms: int) -> Result:
    if facts.phase is not Phase.STABLE or facts.term != c.term:
        return refuse(facts, "stale", f"term {facts.term} is {facts.phase.value}")
    old = facts.sync
    if old.generation != c.generation:
        return refuse(facts, "stale", f"the sync generation is {old.generation}")
    sync = syncset.stepped(old, c)
    why = unknown_voter(facts, c) or syncset.broken_rule(sync) or modes.broken_rule(facts, c)
    if why:
        return refuse(facts, "unsafe", why)
    facts = modes.stepped(replace(facts, sync=sync), c)
    return note(facts, at_ms=at_ms, kind="sync.changed", text=c.reason, rule=c.rule), cmd.Done()


def unknown_voter(facts: Facts, c: cmd.ChangeSync) -> str:
    """Why a member cannot come in; who is in V may be named again, even if its copy is gone."""
    in_v = set(facts.sync.voters)
    new = set(c.voters) - in_v | set(c.names) - set(facts.sync.names) - in_v
    for key in sorted(new):
        if facts.member(key) is None or key == facts.leader:
            return f"{key} cannot be in the sync set"
    return ""


def counted(facts: Facts, key: MemberKey) -> bool:
    """Whether only this incarnation, and no other of its node, may have what the ledger needs.

    That is the leader's. A voter that was lost stays in V under its old name, where it never seals
    again, until the set is changed; its new name has to be admitted like a newcomer's.
    """
    return key == facts.leader


def register_incarnation(facts: Facts, c: cmd.RegisterIncarnation, at_ms: int) -> Result:
    member = facts.members.get(c.node)
    if member is None:
        return refuse(facts, "unknown_node", f"{c.node} is no member")
    if member.incarnation and counted(facts, member.key):
        return refuse(facts, "in_use", f"{member.key} is still counted")
    member = replace(member, incarnation=c.incarnation)
    facts = replace(facts, members={**facts.members, c.node: member})
    text = f"{c.node} has a new data directory"
    return note(facts, at_ms=at_ms, kind="member.rebuilt", text=text), cmd.Done()


def request_failover(facts: Facts, c: cmd.RequestFailover, at_ms: int) -> Result:
    if facts.forced is not None:
        who = facts.forced.requested_by
        return refuse(facts, "busy", f"a failover asked for by {who} is under way")
    if facts.phase is Phase.UNBORN:
        return refuse(facts, "unborn", "there is no cluster yet")
    if c.candidate is not None and c.candidate not in facts.members:
        return refuse(facts, "unknown_node", f"{c.candidate} is no member")
    if c.candidate is not None and facts.is_leader(c.candidate):
        return refuse(facts, "already_leader", f"{c.candidate} is the primary already")
    order = Forced(id=c.id, candidate=c.candidate, requested_by=c.requested_by)
    facts = replace(facts, forced=order)
    text = f"failover to {c.candidate or 'the best candidate'} ordered by {c.requested_by}"
    return note(facts, at_ms=at_ms, kind="failover.requested", text=text), cmd.Done()


def add_member(facts: Facts, c: cmd.AddMember, at_ms: int) -> Result:
    if c.node in facts.members:
        return refuse(facts, "name_taken", f"{c.node} is a member already")
    if any(m.address.raft() == c.address.raft() for m in facts.members.values()):
        host, port = c.address.raft()
        return refuse(facts, "address_taken", f"another member is at {host}:{port}")
    if c.level < facts.level:
        text = f"{c.node} understands level {c.level} of the ledger, it is at {facts.level}"
        return refuse(facts, "too_old", text)
    if c.token:
        token = facts.tokens.get(c.token)
        if token is None or token.used_by is not None:
            return refuse(facts, "token_used", "this join token is unknown or was used already")
        tokens = {**facts.tokens, c.token: replace(token, used_by=c.node)}
        facts = replace(facts, tokens=tokens)
    member = Member(
        node=c.node,
        raft_id=facts.next_raft_id,
        kind=c.kind,
        address=c.address,
        tags=c.tags,
        voter=c.kind.votes,
        level=c.level,
    )
    facts = replace(
        facts,
        members={**facts.members, c.node: member},
        next_raft_id=RaftId(facts.next_raft_id + 1),
    )
    text = f"{c.node} joined as {c.kind.value}"
    facts = note(facts, at_ms=at_ms, kind="member.added", text=text)
    return facts, cmd.Done(str(member.raft_id))


def update_member(facts: Facts, c: cmd.UpdateMember, at_ms: int) -> Result:
    member = facts.members.get(c.node)
    if member is None:
        return refuse(facts, "unknown_node", f"{c.node} is no member")
    if member.kind is not c.kind and member.incarnation:
        return refuse(facts, "holds_data", f"{c.node} holds data: remove it, then join it anew")
    member = replace(
        member,
        kind=c.kind,
        address=c.address,
        tags=c.tags,
        voter=c.kind.votes,
        level=c.level,
    )
    return with_members(facts, {**facts.members, c.node: member}), cmd.Done()


def with_members(facts: Facts, members: dict[NodeId, Member]) -> Facts:
    """Other members, and the level that all of them have."""
    return replace(facts, members=members, level=levels.raised(facts.level, members.values()))


def ask_leave(facts: Facts, c: cmd.AskLeave, at_ms: int) -> Result:
    member = facts.members.get(c.node)
    if member is None:
        return refuse(facts, "unknown_node", f"{c.node} is no member")
    if member.leaving:
        return facts, cmd.Done(str(member.raft_id))
    why = cannot_leave(facts, member)
    if why is not None:
        return facts, why
    member = replace(member, leaving=True)
    facts = replace(facts, members={**facts.members, c.node: member})
    text = f"{c.node} is to leave, asked for by {c.requested_by}"
    facts = note(facts, at_ms=at_ms, kind="member.leaving", text=text)
    return facts, cmd.Done(str(member.raft_id))


def cannot_leave(facts: Facts, member: Member) -> cmd.Refused | None:
    """Why a member has to stay for now; None when it may go."""
    node = member.node
    if not facts.is_quiet:
        return cmd.Refused("not_stable", f"term {facts.term} is {facts.phase.value}")
    if facts.is_leader(node):
        return cmd.Refused("is_primary", f"{node} is the primary: switch over first")
    if facts.switchover is not None and facts.switchover.candidate == node:
        return cmd.Refused("busy", f"a switchover to {node} is under way")
    left = [m for m in facts.members.values() if not m.leaving and m.node != node]
    copies = sum(m.kind is Kind.DATA for m in left) - 1
    wanted = max(1, facts.num_sync) if facts.mode is Mode.STRICT else 0
    if member.kind is Kind.DATA and copies < wanted:
        text = f"mode strict needs {wanted} copies beside the primary, {copies} would be left"
        return cmd.Refused("too_few_copies", text)
    return None


def remove_member(facts: Facts, c: cmd.RemoveMember, at_ms: int) -> Result:
    member = facts.members.get(c.node)
    if member is None or member.raft_id != c.raft_id:
        return refuse(facts, "unknown_node", f"{c.node} is no member under Raft id {c.raft_id}")
    if not member.leaving:
        return refuse(facts, "not_leaving", f"{c.node} was not asked to leave")
    if not facts.is_quiet:
        return refuse(facts, "not_stable", f"term {facts.term} is {facts.phase.value}")
    if syncset.stands_for_data(facts, c.node):
        return refuse(facts, "in_use", f"{member.key} is still counted")
    left = {node: one for node, one in facts.members.items() if node != c.node}
    facts = with_members(facts, left)
    text = f"{c.node} (Raft id {member.raft_id}) is no member any more"
    return note(facts, at_ms=at_ms, kind="member.removed", text=text), cmd.Done()


def register_store(facts: Facts, c: cmd.RegisterStore, at_ms: int) -> Result:
    why = readmission.another_store(facts, c)
    if why is not None:
        return facts, why
    member = replace(facts.members[c.node], store=c.store)
    return replace(facts, members={**facts.members, c.node: member}), cmd.Done()


def readmit(facts: Facts, c: cmd.Readmit, at_ms: int) -> Result:
    """Its Raft id is allocated here, as a newcomer's; the old one is nobody's from now on."""
    why = readmission.cannot_readmit(facts, c)
    if why is not None:
        return facts, why
    facts, text = readmission.readmitted(facts, c)
    facts = note(facts, at_ms=at_ms, kind="member.readmitted", text=text)
    return facts, cmd.Done(str(facts.members[c.node].raft_id))


def set_max_voters(facts: Facts, c: cmd.SetMaxVoters, at_ms: int) -> Result:
    if not 1 <= c.max_voters <= MAX_VOTERS_MOST:
        text = f"1 to {MAX_VOTERS_MOST} members may vote, not {c.max_voters}"
        return refuse(facts, "invalid", text)
    facts = replace(facts, max_voters=c.max_voters)
    text = f"at most {c.max_voters} members vote, asked for by {c.requested_by}"
    return note(facts, at_ms=at_ms, kind="voters.limited", text=text), cmd.Done()


def grant_lease(facts: Facts, c: cmd.GrantLease, at_ms: int) -> Result:
    given = leases.granted(facts, c)
    if isinstance(given, str):
        return refuse(facts, "stale", given)
    facts = replace(facts, lease=given)
    return note(facts, at_ms=at_ms, kind="lease.granted", text=c.reason, rule=c.rule), cmd.Done()


def renew_lease(facts: Facts, c: cmd.RenewLease, at_ms: int) -> Result:
    renewed = leases.renewed(facts, c)
    if isinstance(renewed, str):
        return refuse(facts, "stale", renewed)
    return replace(facts, lease=renewed), cmd.Done()


def expire_lease(facts: Facts, c: cmd.ExpireLease, at_ms: int) -> Result:
    left = leases.ended(facts.lease, c)
    if isinstance(left, str):
        return refuse(facts, "stale", left)
    facts = replace(facts, lease=left)
    return note(facts, at_ms=at_ms, kind="lease.ended", text=c.reason, rule=c.rule), cmd.Done()


HANDLERS: dict[type, Callable[[Facts, Any, int], Result]] = {
    cmd.ChooseFounder: choose_founder,
    cmd.Born: born,
    cmd.Begin: begin,
    cmd.Drained: drained,
    cmd.Elect: elect,
    cmd.Establish: establish,
    cmd.ChangeSync: change_sync,
    cmd.RegisterIncarnation: register_incarnation,
    cmd.RequestSwitchover: switching.request,
    cmd.Hold: switching.hold,
    cmd.EndSwitchover: switching.end,
    cmd.RequestFailover: request_failover,
    cmd.AddMember: add_member,
    cmd.UpdateMember: update_member,
    cmd.AskLeave: ask_leave,
    cmd.RemoveMember: remove_member,
    cmd.RegisterStore: register_store,
    cmd.Readmit: readmit,
    cmd.SetMode: modes.set_mode,
    cmd.SetMaxVoters: set_max_voters,
    cmd.GrantLease: grant_lease,
    cmd.RenewLease: renew_lease,
    cmd.ExpireLease: expire_lease,
    cmd.GiveUp: giving.give_up,
    cmd.Fenced: fencing.fenced,
    cmd.FastForward: forward.fast_forward,
    cmd.SetConfig: set_config,
    cmd.FailConfig: fail_config,
    cmd.EndTrial: end_trial,
    cmd.RotatePassword: passwords.rotate,
    cmd.StepPassword: passwords.step,
    cmd.EndOverlap: passwords.end_overlap,
    **(UPKEEP | SLOTS | STANDBY_CLUSTER | RIGHTS | DRILLS),
    cmd.TuneSync: modes.tune,
}
