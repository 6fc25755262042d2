"""A lease is renewed for ever: the log, its file and a restart must not feel it."""

from __future__ import annotations

from pathlib import Path

from pgherd.ledger.commands import Proposal, RenewLease
from pgherd.model.facts import Address, Facts, Kind, Member, Phase
from pgherd.model.ids import Instant, Lsn, MemberKey, NodeId, RaftId, Term
from pgherd.model.lease import Ask, Lease
from pgherd.store.base import Identity, Store
from pgherd.store.replica import LOG_ENTRIES_KEPT, LOG_ENTRIES_MAX, Replica, give_birth
from pgherd.store.sqlite import SqliteStore

N1 = NodeId("n1")
KEY = MemberKey(N1, "a1")
RENEWALS = 5000
AT_ONCE = 50
FILES_BYTES_MAX = 2 * 1024 * 1024


def leased() -> Facts:
    """One node leads term 1 and holds its lease."""
    member = Member(N1, RaftId(1), Kind.DATA, Address("127.0.0.1", 1), incarnation="a1")
    return Facts(
        cluster="test",
        members={N1: member},
        next_raft_id=RaftId(2),
        phase=Phase.STABLE,
        term=Term(1),
        leader=KEY,
        lease=Lease(id=1, holder=KEY, term=Term(1), ttl_ms=10_000),
    )


def replica_on(store: Store) -> Replica:
    return Replica(
        store,
        raft_id=RaftId(1),
        cluster="test",
        election_tick=10,
        heartbeat_tick=1,
        rng=lambda low, high: low,
    )


def settle(replica: Replica, store: Store) -> None:
    """Rounds and compactions, as the daemon has them, until nothing is left to do."""
    while (ready := replica.begin()) is not None:
        store.save(**replica.durable(ready))
        replica.finish(ready)
        image = replica.image_due()
        if image is not None:
            store.make_snapshot(*image)
            store.remember()
            store.compact(replica.compact_to(image[0]))
            store.remember()


def renew(number: int) -> Proposal:
    """The renewal of this number."""
    ask = Ask("boot", Instant(1000 * number))
    command = RenewLease(id=1, term=Term(1), holder=KEY, ask=ask, flush_lsn=Lsn(number))
    return Proposal("n1-0123456789ab", number, 0, command)


def test_thousands_of_renewals_stay_within_the_limits(tmp_path: Path) -> None:
    """The log is cut, the files stay small, and a restart knows the newest renewal."""
    store: Store = SqliteStore(tmp_path)
    give_birth(store, leased(), Identity("test", N1, RaftId(1), "s1"))
    replica = replica_on(store)
    replica.node.campaign()
    settle(replica, store)
    for first in range(1, RENEWALS, AT_ONCE):
        for number in range(first, first + AT_ONCE):
            replica.propose(renew(number))
        settle(replica, store)
        longest = LOG_ENTRIES_MAX + LOG_ENTRIES_KEPT + AT_ONCE
        assert store.last_index() - store.first_index() < longest
    newest = replica.facts.lease
    assert newest is not None
    assert newest.renew_seq == RENEWALS
    store.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < FILES_BYTES_MAX
    again = replica_on(SqliteStore(tmp_path))
    again.node.campaign()
    settle(again, again.store)
    assert again.facts.lease == newest
    again.store.close()
