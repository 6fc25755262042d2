"""Lost quorum: what a stopped node's store holds, and making it the store of a single voter.

The whole log is taken over, also what was never known to be committed: a majority that is gone may
have committed it, and an entry too many is harmless where an entry too few is not. Nothing here
asks anybody; that nobody else is left is the operator's word.
"""

from __future__ import annotations

import msgspec

from pgherd.ledger.machine import Ledger
from pgherd.ledger.rescue import rescued
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Facts, Kind
from pgherd.model.promises import Promises
from pgherd.raft.types import ConfState, Hard, Snapshot
from pgherd.store.base import Identity, Store

ELSEWHERE = "recover on another node that still has its directory; here, join anew: pgherd join"


class Found(msgspec.Struct, frozen=True):
    """What a store holds. The greatest (last_term, last_index) of all nodes is the newest log."""

    identity: Identity
    last_term: int
    last_index: int
    commit: int
    facts: Facts
    promises: Promises
    ledger: bytes

    @property
    def position(self) -> str:
        return f"{self.last_term}.{self.last_index}"


def look(store: Store) -> Found:
    """Read everything up to the end of the log. Raises OperatorError where nothing can be kept."""
    identity = store.identity()
    if identity is None:
        raise OperatorError("this node has never been part of a cluster", ELSEWHERE)
    ledger, hard = replay(store, identity), store.initial_state()[0]
    last = store.last_index()
    found = Found(
        identity=identity,
        last_term=store.term(last),
        last_index=last,
        commit=hard.commit,
        facts=ledger.facts,
        promises=store.promises(),
        ledger=ledger.snapshot(),
    )
    why = unfit(found)
    if why:
        raise OperatorError(f"{identity.node} cannot carry the cluster on: {why}", ELSEWHERE)
    return found


def replay(store: Store, identity: Identity) -> Ledger:
    """The ledger as of the last entry, committed or not."""
    ledger = Ledger(Facts(cluster=identity.cluster))
    snapshot = store.snapshot()
    if snapshot.index:
        ledger.restore(snapshot.data)
    first = max(store.first_index(), snapshot.index + 1)
    for entry in store.entries(first, store.last_index() + 1, None):
        if entry.type == "normal":
            ledger.apply(entry.data, index=entry.index)
    return ledger


def unfit(found: Found) -> str:
    """Why this store is nothing to go on with; "" when it is."""
    member = found.facts.members.get(found.identity.node)
    if member is None or member.raft_id != found.identity.raft_id:
        return "it is no member as far as it knows"
    if member.kind is not Kind.DATA:
        return f"a {member.kind.value} node holds no data"
    if not found.promises.incarnation or not found.facts.system_id:
        return "it has no copy of the data"
    if found.promises.dirty_rewind:
        return "its copy is half rewound, or was promoted by hand"
    return ""


def rescue(store: Store, found: Found, *, at_ms: int) -> Facts:
    """Make this the store of the only voter, in one transaction; the facts it starts from."""
    node, promises = found.identity.node, found.promises
    facts = rescued(found.facts, keep=node, promises=promises, at_ms=at_ms)
    hard, _ = store.initial_state()
    term, index = max(hard.term, found.last_term) + 1, found.last_index + 1
    ledger = Ledger(facts)
    ledger.restore(found.ledger)
    ledger.facts = facts
    conf = ConfState(voters=(found.identity.raft_id,))
    store.save(
        hard=Hard(term, 0, index),
        snapshot=Snapshot(index=index, term=term, conf=conf, data=ledger.snapshot()),
        promises=msgspec.structs.replace(promises, floor=None),
    )
    store.remember()
    return facts
