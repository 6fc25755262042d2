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
from pgherd.model.facts import Facts, Kind, Member, Phase
from pgherd.model.ids import MemberKey, RaftId, Term
from pgherd.model.promises import Promises

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
    if not facts.is_quiet:
        text = f"term {facts.term} is {facts.phase.value}, which may need what {c.node} has"
        return cmd.Refused("not_stable", text)
    return None


def holds_data(member: Member) -> bool:
    """Whether the ledger knows of a copy of the data there."""
    return member.kind is Kind.DATA and bool(member.incarnation)


def alone_has_everything(facts: Facts, member: Member) -> bool:
    """Whether only this copy may lead: the newest reign's winner's, and V can never be enough.

    A voter whose copy has another name by now never seals again under the old one.
    """
    reign, sync = facts.reign(), facts.sync
    led = facts.leader == member.key and reign is not None and reign.leader == member.key
    able = [key for key in sync.voters if facts.member(key) is not None]
    return led and (not able or sync.r > len(able))


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


class Place(msgspec.Struct, frozen=True):
    """What a member that returns must know of the ledger to promise anything again.

    term: no promise that it forgot is above it · leader, stable: whom it may follow · reign: the
    newest · incarnation: under which the ledger goes on to count its copy, "" when it must be
    another one.
    """

    term: Term
    reign: Term
    leader: MemberKey | None
    stable: bool
    incarnation: str


def place_of(facts: Facts, member: Member) -> Place:
    """The place of a member that was re-admitted."""
    reign = facts.reign()
    return Place(
        term=facts.term,
        reign=reign.term if reign is not None else Term(0),
        leader=facts.leader,
        stable=facts.phase is Phase.STABLE,
        incarnation=member.incarnation,
    )


def keeps_its_name(place: Place, named: str) -> bool:
    """Whether the copy of this incarnation is the one that the ledger goes on to count."""
    return bool(named) and named == place.incarnation


def first_promises(
    place: Place, mine: MemberKey, *, followed: tuple[MemberKey, Term] | None, anew: str
) -> Promises:
    """What a member that returns with a copy promises; by its old name `mine`, else by `anew`.

    followed: under which name and term the copy's own files have it stream. Only when that is this
    copy, the present leader and the present term is its end known to be the leader's: else a rewind
    may have been cut short in it, or its end may be of another branch, and it counts as half
    rewound. The only holder of everything took its WAL from its own reign's lineage.
    """
    fresh = Promises(promise=place.term)
    if keeps_its_name(place, mine.incarnation):
        return replace(
            fresh, incarnation=mine.incarnation, adopted=place.reign, adopted_leader=mine.node
        )
    leader = place.leader.node if place.leader is not None else None
    elsewhere = place.stable and leader is not None and leader != mine.node
    if elsewhere and mine.incarnation and followed == (mine, place.term):
        return replace(fresh, incarnation=anew, adopted=place.term, adopted_leader=leader)
    return replace(fresh, incarnation=anew, dirty_rewind=True)
