"""Proves what lost-quorum recovery keeps of a store, what it makes of it, and what it refuses."""

from __future__ import annotations

import msgspec
import pytest

from pgherd.ledger import commands as cmd
from pgherd.ledger.commands import Proposal
from pgherd.ledger.machine import Ledger
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Address, Facts, Floor, Frozen, Kind, Member, Mode, Phase
from pgherd.model.ids import Lsn, MemberKey, NodeId, Position, RaftId, Term
from pgherd.model.promises import Promises
from pgherd.raft.types import ConfState, Entry, Hard
from pgherd.store.base import Identity, Store
from pgherd.store.replica import Replica, give_birth
from pgherd.store.rescue import look, rescue

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
OWN = Promises(promise=Term(9), promise_elector=N2, incarnation="abc")
ADDRESS = Address(host="h", raft_port=1, postgres_port=2)


def first_facts() -> Facts:
    members = {
        node: Member(node=node, raft_id=RaftId(number), kind=Kind.DATA, address=ADDRESS)
        for number, node in enumerate((N1, N2, N3), start=1)
    }
    leads = MemberKey(N1, "xyz")
    return Facts(
        cluster="main",
        members=members,
        next_raft_id=RaftId(4),
        phase=Phase.STABLE,
        term=Term(7),
        leader=leads,
        system_id="7",
        level=2,
    )


def log_of(store: Store, facts: Facts, *commands: cmd.AnyCommand) -> list[Entry]:
    """Entries behind the birth snapshot, in Raft term 5."""
    ledger, entries = Ledger(facts), []
    for number, command in enumerate(commands, start=1):
        data = ledger.encode(Proposal("me", number, 1, command))
        entries.append(Entry(term=5, index=store.last_index() + number, data=data))
    return entries


def lived(disk, *, promises: Promises = OWN, node: NodeId = N3, facts: Facts | None = None):
    """n3's store: born, then two entries, of which only the first is known to be committed."""
    store = disk.open()
    facts = facts or first_facts()
    give_birth(store, facts, Identity("main", node, RaftId(3), "store"))
    entries = log_of(store, facts, cmd.SetMode(Mode.STRICT, 1), cmd.SetMode(Mode.QUORUM, 2))
    first = entries[0].index
    store.save(hard=Hard(6, 1, first), entries=entries, promises=promises)
    store.remember()
    return store


def test_the_newest_log_is_kept_whole(disk):
    """Also what was never known to be committed: a lost majority may have committed it."""
    found = look(lived(disk))
    assert (found.position, found.commit) == ("5.3", 2)
    assert (found.facts.mode, found.facts.num_sync) == (Mode.QUORUM, 2)


def test_one_voter_is_left_in_an_election_it_can_win(disk):
    """One member, a term above every trace, no leader, its own copy to seal; after a restart."""
    store = lived(disk)
    rescue(store, look(store), at_ms=5)
    disk.crash()
    store = disk.open()
    _, conf = store.initial_state()
    assert conf == ConfState(voters=(3,))
    replica = Replica(
        store,
        raft_id=RaftId(3),
        cluster="main",
        election_tick=10,
        heartbeat_tick=1,
        rng=lambda low, high: low,
    )
    for _ in range(50):
        replica.node.tick()
        while (ready := replica.begin()) is not None:
            store.save(**replica.durable(ready))
            replica.finish(ready)
    assert replica.leads
    facts = replica.facts
    assert set(facts.members) == {N3}
    assert (facts.phase, facts.term, facts.leader) == (Phase.ELECTING, 10, None)
    assert facts.elector == N3
    assert facts.sync.voters == (MemberKey(N3, "abc"),)
    assert (facts.sync.k, facts.sync.r) == (1, 1)
    assert all(facts.was_removed(RaftId(lost)) for lost in (1, 2))
    assert facts.next_raft_id > 1000
    assert facts.notes[-1].kind == "cluster.recovered"
    assert "n1, n2" in facts.notes[-1].text


def test_every_trace_of_a_term_counts(disk):
    """A frozen position or a floor may name a higher term than ledger and promise."""
    frozen = Frozen(Term(11), Position(Term(10), Lsn(1)))
    floor = Floor(Position(Term(20), Lsn(1)))
    store = lived(disk, promises=msgspec.structs.replace(OWN, frozen=frozen, floor=floor))
    assert rescue(store, look(store), at_ms=5).term == 21
    assert store.promises().floor is None, "what the floor stood for is given up"


@pytest.mark.parametrize(
    ("why", "changes"),
    [
        ("half rewound", {"promises": msgspec.structs.replace(OWN, dirty_rewind=True)}),
        ("no copy", {"promises": Promises()}),
        ("no member", {"node": NodeId("n4")}),
    ],
)
def test_a_store_to_go_on_with_needs_a_whole_copy(disk, why, changes):
    """Without one, another node has to be the one that is kept."""
    with pytest.raises(OperatorError, match=why) as caught:
        look(lived(disk, **changes))
    assert "another node" in caught.value.hint


def test_a_witness_and_an_empty_store_are_refused(disk):
    """Neither has anything to go on with."""
    with pytest.raises(OperatorError, match="never been part"):
        look(disk.open())
    disk.store.close()
    facts = first_facts()
    members = {**facts.members}
    members[N3] = msgspec.structs.replace(members[N3], kind=Kind.WITNESS)
    with pytest.raises(OperatorError, match="holds no data"):
        look(lived(disk, facts=msgspec.structs.replace(facts, members=members)))
