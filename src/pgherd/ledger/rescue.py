"""What the facts become when an operator gives the other members up for lost (PROTOCOL.md F0).

The ledger that is left may be behind, so nothing of the last reign is believed but its end: the
next term is above every term that this node knows of in any way, it is not decided yet, and only
the copy that is left elects. Ids, tokens and the names of the lost are not handed on: others may
have been given more of them than is written here.
"""

from __future__ import annotations

import msgspec

from pgherd.model.facts import Facts, Note, Phase, SyncState
from pgherd.model.ids import NodeId, RaftId, Term
from pgherd.model.promises import Promises

IDS_SKIPPED = 1000
"""So many Raft ids may have been given away by others in entries that never came here."""


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
    term = next_term(facts, promises)
    names = ", ".join(lost) or "nobody"
    text = f"recovered from {keep} alone; given up, with what only they held: {names}"
    line = Note(at_ms=at_ms, term=term, kind="cluster.recovered", text=text)
    return msgspec.structs.replace(
        facts,
        members={keep: member},
        next_raft_id=RaftId(facts.next_raft_id + IDS_SKIPPED),
        phase=Phase.ELECTING,
        term=term,
        elector=keep,
        leader=None,
        sync=SyncState(voters=(member.key,), k=1, kd=1, r=1, generation=facts.sync.generation + 1),
        switchover=None,
        handover=None,
        forced=None,
        reason=text,
        rule=0,
        began_at_ms=at_ms,
        tokens={},
        notes=(*facts.notes, line),
    )
