"""Proves that a saved ledger becomes the same beginning in every new store, and who may have it."""

from __future__ import annotations

import pytest

from pgherd.ledger.saved import Saved
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Address, Facts, Kind, Member, Phase
from pgherd.model.ids import NodeId, RaftId, Term
from pgherd.store.memory import MemoryDisk, MemoryStore
from pgherd.store.replica import Replica
from pgherd.store.restoring import begin, beginning

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def saved(**changes) -> Saved:
    members = {
        node: Member(
            node=node,
            raft_id=RaftId(number),
            kind=Kind.DATA,
            address=Address(host="h", raft_port=number),
            incarnation=f"aaaaa{number}",
        )
        for number, node in enumerate((N1, N2, N3), start=1)
    }
    facts = {"members": members, "next_raft_id": RaftId(4), "term": Term(7), "system_id": "7"}
    return Saved(
        facts=Facts(cluster="main", **{**facts, **changes}),
        index=40,
        raft_term=3,
        voters=(RaftId(1), RaftId(2)),
        saved="then",
        at_ms=5,
    )


def replica_of(store, raft_id: int) -> Replica:
    return Replica(
        store,
        raft_id=RaftId(raft_id),
        cluster="main",
        election_tick=10,
        heartbeat_tick=1,
        rng=lambda low, high: low,
    )


def test_restored_nodes_agree_at_once(disk):
    """One store of each kind and one in memory: two voters elect a leader and commit together."""
    found = beginning(saved(), lost=frozenset())
    store, other = disk.open(), MemoryStore(MemoryDisk())
    begin(store, found, node=N1, incarnation="aaaaa1")
    begin(other, found, node=N2, incarnation="aaaaa2")
    disk.crash()
    store = disk.open()
    ids = {node: member.raft_id for node, member in found.facts.members.items()}
    conf = store.initial_state()[1]
    assert (conf.voters, conf.learners) == ((ids[N1], ids[N2]), (ids[N3],))
    assert store.promises().promise == found.facts.term - 1
    assert store.promises().incarnation == "aaaaa1"
    nodes = {ids[N1]: replica_of(store, ids[N1]), ids[N2]: replica_of(other, ids[N2])}
    for _ in range(40):
        nodes[ids[N1]].node.tick()
        for one in nodes.values():
            while (ready := one.begin()) is not None:
                one.store.save(**one.durable(ready))
                done = one.finish(ready)
                for message in (*one.early(ready), *done.messages):
                    if message.to in nodes:
                        nodes[message.to].step(message)
    assert nodes[ids[N1]].leads
    assert nodes[ids[N2]].node.applied > 41
    assert nodes[ids[N2]].facts == found.facts
    assert found.facts.phase is Phase.ELECTING


def test_what_cannot_be_restored_says_why():
    """Strangers among the lost, nobody left with data, a cluster that was never born."""
    with pytest.raises(OperatorError, match="knows no n9") as strange:
        beginning(saved(), lost=frozenset({NodeId("n9")}))
    assert "n1, n2, n3" in strange.value.hint
    with pytest.raises(OperatorError, match="nobody is left"):
        beginning(saved(), lost=frozenset({N1, N2, N3}))
    with pytest.raises(OperatorError, match="no data yet"):
        beginning(saved(system_id=""), lost=frozenset())


def test_if_all_voters_are_lost_the_others_vote():
    """n3 only listened; now it carries the cluster on."""
    found = beginning(saved(), lost=frozenset({N1, N2}))
    assert found.snapshot.conf.voters == (found.facts.members[N3].raft_id,)


def test_the_word_is_of_all_that_was_given():
    """The same on every node; another file or another loss has another word."""
    words = {
        beginning(saved(), lost=frozenset()).code,
        beginning(saved(), lost=frozenset()).code,
        beginning(saved(), lost=frozenset({N3})).code,
        beginning(saved(term=Term(8)), lost=frozenset()).code,
    }
    assert len(words) == 3
