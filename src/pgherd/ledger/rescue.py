"""What the facts become where the ledger may be behind what the copies hold (PROTOCOL.md F0).

That is so when an operator gives the other members up for lost, or puts a saved ledger in place of
one that is gone. Nothing of the last reign is believed but its end: the next term is above every
term that anybody may know of, it is not decided yet, and every copy that is left has to be sealed
before one is elected. Ids, tokens and the names of the lost are not handed on: others may have been
given more of them than is written here.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import msgspec

from pgherd.ledger.saved import Saved
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Facts, Kind, Member, Note, Phase, SyncState
from pgherd.model.ids import NodeId, RaftId, Term
from pgherd.model.promises import Promises

IDS_SKIPPED = 1000
"""So many Raft ids may have been given away by others in entries that never came here."""
IDS_SPREAD = 1_000_000
NO_TERM = Term(0)
TERMS_SKIPPED = 1000
"""So many terms may have begun since a ledger was saved."""


def next_term(facts: Facts, promises: Promises) -> Term:
    """One above every term that this node has a trace of."""
    known = [facts.term, promises.promise, promises.adopted]
    if promises.frozen is not None:
        known += [promises.frozen.term, promises.frozen.position.epoch]
    if promises.floor is not None:
        known.append(promises.floor.position.epoch)
    return Term(max(known) + 1)


def rescued(facts: Facts, *, keep: NodeId, promises: Promises, at_ms: int) -> Facts:
    """The facts of a cluster of this one data member, in an election that only it can win."""
    lost = sorted(set(facts.members) - {keep})
    member = msgspec.structs.replace(
        facts.members[keep], incarnation=promises.incarnation, leaving=False, voter=True
    )
    names = ", ".join(lost) or "nobody"
    return begun_anew(
        facts,
        members={keep: member},
        next_raft_id=RaftId(facts.next_raft_id + IDS_SKIPPED),
        term=next_term(facts, promises),
        kind="cluster.recovered",
        text=f"recovered from {keep} alone; given up, with what only they held: {names}",
        at_ms=at_ms,
    )


def restored(saved: Saved, *, lost: frozenset[NodeId], above: Term = NO_TERM) -> Facts:
    """The facts of a new cluster of the saved members without the lost ones, in a term above.

    Raises OperatorError for a standby cluster's.

    The same on every node that is given the same, and nothing else: the Raft ids follow from what
    was given, so that nodes that were given something else are strangers to each other.
    """
    facts = saved.facts
    if facts.follows is not None:
        raise OperatorError(
            "this ledger is of a standby cluster; should it have been promoted since, its writes"
            " would be given up for those of the remote",
            "make a standby cluster anew: pgherd init --follow; or keep what a node has: pgherd"
            " adopt",
        )
    kept = {node: member for node, member in facts.members.items() if node not in lost}
    given = saved_bytes(saved) + f"\n{above} {' '.join(sorted(lost))}".encode()
    first = facts.next_raft_id + IDS_SKIPPED + zlib.crc32(given) % IDS_SPREAD
    members = {
        node: msgspec.structs.replace(
            kept[node], raft_id=RaftId(first + place), store="", leaving=False
        )
        for place, node in enumerate(sorted(kept))
    }
    names = ", ".join(sorted(lost)) or "nobody"
    return begun_anew(
        facts,
        members=members,
        next_raft_id=RaftId(first + len(members)),
        term=Term(max(facts.term + TERMS_SKIPPED, above + 1)),
        kind="cluster.restored",
        text=f"ledger of {saved.saved} restored; given up, with what only they held: {names}",
        at_ms=saved.at_ms,
    )


def saved_bytes(saved: Saved) -> bytes:
    """What a saved ledger is told apart by."""
    return msgspec.msgpack.encode(saved, order="deterministic")


def begun_anew(
    facts: Facts,
    *,
    members: Mapping[NodeId, Member],
    next_raft_id: RaftId,
    term: Term,
    kind: str,
    text: str,
    at_ms: int,
) -> Facts:
    """The facts in an election that needs the copies of all of these members.

    kd is 0: the cluster may have been degraded since, and then one copy alone has everything. Its
    owner wins; should it die before the term is established, nobody else can be elected without it.
    """
    line = Note(at_ms=at_ms, term=term, kind=kind, text=text)
    if facts.follows is not None:
        facts = msgspec.structs.replace(facts, notes=(*facts.notes, line))
        return following_still(facts, members=members, next_raft_id=next_raft_id, term=term)
    copies = sorted(m.key for m in members.values() if m.kind is Kind.DATA and m.incarnation)
    return msgspec.structs.replace(
        facts,
        members=dict(members),
        next_raft_id=next_raft_id,
        phase=Phase.ELECTING,
        term=term,
        elector=copies[0].node if copies else None,
        leader=None,
        sync=SyncState(
            voters=tuple(copies), k=1, kd=0, r=len(copies), generation=facts.sync.generation + 1
        ),
        switchover=None,
        handover=None,
        forced=None,
        given_up=None,
        unsealed=(),
        reason=text,
        rule=0,
        began_at_ms=at_ms,
        tokens={},
        notes=(*facts.notes, line),
    )


def following_still(
    facts: Facts, *, members: Mapping[NodeId, Member], next_raft_id: RaftId, term: Term
) -> Facts:
    """A standby cluster has no reign to end: it finds a standby leader among who is left."""
    assert facts.follows is not None, "it follows"
    number = facts.follows.number + 1
    return msgspec.structs.replace(
        facts,
        members=dict(members),
        next_raft_id=next_raft_id,
        term=term,
        sync=SyncState(generation=facts.sync.generation + 1),
        follows=msgspec.structs.replace(facts.follows, leader=None, number=number),
        tokens={},
    )
