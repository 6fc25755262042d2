"""Re-admission: a member whose Raft store is lost goes on under a new Raft id (PROTOCOL.md 2).

Owns what is safe. With the store went the member's promises: what it acknowledged, what it has to
regain after a rewind, whose WAL it took. So its copy is a new incarnation, which counts for nothing
until it is admitted to the sync set anew. There is one exception, and one only: a degraded leader
alone has every acknowledged commit. Its copy cannot be called another one, or nobody could ever
lead again; it need not be either, for nobody else counts, and what is in its WAL shows its term.
"""

from __future__ import annotations

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger import syncset
from pgherd.model.facts import Facts, Kind, Member, Phase
from pgherd.model.ids import RaftId

replace = msgspec.structs.replace


def another_store(facts: Facts, c: cmd.RegisterStore) -> cmd.Refused | None:
    """Why this is not the store of this Raft id; None when it may be."""
    member = facts.members.get(c.node)
    if member is None or member.raft_id != c.raft_id:
        return cmd.Refused("unknown_node", f"{c.node} is no member under Raft id {c.raft_id}")
    if member.store and member.store != c.store:
        return cmd.Refused("another_store", f"Raft id {c.raft_id} has store {member.store}")
    return None


def cannot_readmit(facts: Facts, c: cmd.Readmit) -> cmd.Refused | None:
    """Why a member cannot be given a new Raft id now; None when it can."""
    member = facts.members.get(c.node)
    if member is None or member.raft_id != c.raft_id:
        return cmd.Refused("unknown_node", f"{c.node} is no member under Raft id {c.raft_id}")
    if not c.store or c.store == member.store:
        return cmd.Refused("same_store", f"store {c.store} takes part already")
    if member.leaving:
        return cmd.Refused("leaving", f"{c.node} is being removed")
    if facts.switchover is not None and facts.switchover.candidate == c.node:
        return cmd.Refused("busy", f"a switchover to {c.node} is under way")
    if not holds_data(member) or alone_has_everything(facts, member):
        return None
    if facts.leader == member.key:
        return cmd.Refused("is_leader", f"{c.node} leads: another has to be elected first")
    if facts.phase is not Phase.STABLE:
        text = f"term {facts.term} is {facts.phase.value}, which may need what {c.node} has"
        return cmd.Refused("not_stable", text)
    return None


def holds_data(member: Member) -> bool:
    """Whether the ledger knows of a copy of the data there."""
    return member.kind is Kind.DATA and bool(member.incarnation)


def alone_has_everything(facts: Facts, member: Member) -> bool:
    """Whether only this copy may lead: the last leader's, established, with no synchronous one."""
    reign = facts.reign()
    led = facts.leader == member.key and facts.phase in (Phase.STABLE, Phase.ELECTING)
    established = reign is not None and reign.established and reign.leader == member.key
    nobody_else = not facts.sync.voters and not any(names for names, _ in syncset.uses(facts.sync))
    return led and established and nobody_else


def readmitted(facts: Facts, c: cmd.Readmit) -> tuple[Facts, str]:
    """The facts with the member under its new Raft id, and the line for people."""
    member = facts.members[c.node]
    keeps = alone_has_everything(facts, member)
    now = replace(
        member,
        raft_id=facts.next_raft_id,
        store=c.store,
        incarnation=member.incarnation if keeps else "",
    )
    facts = replace(
        facts,
        members={**facts.members, c.node: now},
        next_raft_id=RaftId(facts.next_raft_id + 1),
    )
    text = f"{c.node} lost its Raft store; it was Raft id {c.raft_id} and is {now.raft_id} now"
    return facts, text
