"""A saved ledger as the store of a node that has none: the same beginning on every node.

So it is a founding with other facts: all nodes that are given the same file start with the same
snapshot and the same voters, and agree as founders do. Leaves the facts to `ledger.rescue`, and
whether this node may be restored at all to its caller.
"""

from __future__ import annotations

import secrets

import msgspec

from pgherd.ledger.levels import LEVEL, check_level
from pgherd.ledger.machine import Ledger
from pgherd.ledger.rescue import NO_TERM, restored
from pgherd.ledger.saved import Saved
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId, Term
from pgherd.model.promises import Promises
from pgherd.raft.types import ConfState, Hard, Snapshot
from pgherd.store.base import Identity, Store


class Beginning(msgspec.Struct, frozen=True):
    """What every node of the restored cluster starts from. code: short, differs where it does."""

    facts: Facts
    snapshot: Snapshot

    @property
    def code(self) -> str:
        """Ids follow from all that was given, so the first one stands for it."""
        return f"{min(self.snapshot.conf.voters):08x}"


def beginning(saved: Saved, *, lost: frozenset[NodeId], above: Term = NO_TERM) -> Beginning:
    """What follows from a file and what is known beside it. Raises OperatorError."""
    strangers = lost - set(saved.facts.members)
    if strangers:
        known = ", ".join(sorted(saved.facts.members))
        raise OperatorError(
            f"--lost: the file knows no {', '.join(sorted(strangers))}", f"its members: {known}"
        )
    if not saved.facts.system_id:
        raise OperatorError(
            "the file is of a cluster that had no data yet", "make a new one: pgherd init"
        )
    check_level(saved.facts, LEVEL)
    facts = restored(saved, lost=lost, above=above)
    if not facts.sync.voters:
        raise OperatorError(
            "nobody is left who had a copy of the data", "name fewer members as --lost"
        )
    voted = {node for node, member in saved.facts.members.items() if member.raft_id in saved.voters}
    voters = [m.raft_id for node, m in facts.members.items() if node in voted]
    voters = voters or [member.raft_id for member in facts.members.values()]
    learners = [m.raft_id for m in facts.members.values() if m.raft_id not in voters]
    conf = ConfState(voters=tuple(sorted(voters)), learners=tuple(sorted(learners)))
    data = Ledger(facts).snapshot()
    snapshot = Snapshot(index=saved.index + 1, term=saved.raft_term + 1, conf=conf, data=data)
    return Beginning(facts, snapshot)


def begin(store: Store, found: Beginning, *, node: NodeId, incarnation: str) -> Identity:
    """Write the beginning into a new store, in one transaction; return whose store it is now.

    What this node had promised before is gone with its store: the term is far above all of it, and
    nothing below that term is followed or promised any more.
    """
    facts, snapshot = found.facts, found.snapshot
    member = facts.members[node]
    identity = Identity(facts.cluster, node, member.raft_id, secrets.token_hex(6))
    store.save(
        hard=Hard(snapshot.term, 0, snapshot.index),
        snapshot=snapshot,
        promises=Promises(promise=Term(facts.term - 1), incarnation=incarnation),
        identity=identity,
    )
    store.remember()
    return identity
