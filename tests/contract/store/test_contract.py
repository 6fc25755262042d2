"""Prove what every store promises: durable means durable, readers lag behind, bugs are refused."""

from __future__ import annotations

from typing import Any

import pytest

from pgherd.model.errors import BugError
from pgherd.model.facts import Floor, Frozen
from pgherd.model.ids import Lsn, NodeId, Position, RaftId, Term
from pgherd.model.promises import Promises
from pgherd.raft.types import Compacted, ConfState, Entry, Hard, Snapshot, Unavailable
from pgherd.store.base import Identity, StoreBusy, StoreFailed

ME = Identity("cluster", NodeId("a"), RaftId(3), "abcd")
CONF = ConfState(voters=(1, 2, 3), learners=(4,))
PROMISES = Promises(
    promise=Term(7),
    promise_elector=NodeId("b"),
    adopted=Term(6),
    adopted_leader=NodeId("c"),
    frozen=Frozen(Term(7), Position(Term(6), Lsn(2**40))),
    floor=Floor(Position(Term(5), Lsn(9)), Lsn(8)),
    dirty_rewind=True,
    incarnation="f00d",
)


def entries(first: int, last: int, *, term: int = 1) -> list[Entry]:
    return [
        Entry(term, index, "normal", b"%d-%d" % (term, index)) for index in range(first, last + 1)
    ]


def everything(store: Any) -> tuple[Any, ...]:
    """All that a reader can see."""
    first, last = store.first_index(), store.last_index()
    return (
        store.initial_state(),
        store.entries(first, last + 1, None),
        [store.term(index) for index in range(first - 1, last + 1)],
        store.snapshot(),
        store.promises(),
        store.identity(),
    )


def filled(disk: Any) -> Any:
    """A store with ten entries of two terms, and all else set."""
    store = disk.open()
    store.set_identity(ME)
    store.set_conf(CONF)
    store.save(hard=Hard(1, 2, 0), entries=entries(1, 6))
    store.save(hard=Hard(2, 3, 4), entries=entries(5, 10, term=2), promises=PROMISES)
    store.remember()
    return store


def test_a_new_store_is_empty(disk: Any) -> None:
    """Term 0, no vote, no entry, no snapshot, no promise, nobody's."""
    store = disk.open()
    assert everything(store) == (
        (Hard(0, 0, 0), ConfState()), [], [0], Snapshot(), Promises(), None,
    )  # fmt: skip
    assert (store.first_index(), store.last_index()) == (1, 0)
    store.close()
    store.close()


def test_everything_saved_survives_a_crash(disk: Any) -> None:
    """What save returned from is there after a crash, exactly; the conflicting tail is replaced."""
    store = filled(disk)
    seen = everything(store)
    assert seen[0] == (Hard(2, 3, 4), CONF)
    assert [entry.term for entry in seen[1]] == [1] * 4 + [2] * 6
    assert seen[4:] == (PROMISES, ME)
    disk.crash()
    again = disk.open()
    assert everything(again) == seen
    again.close()


def test_readers_see_a_change_only_after_remember(disk: Any) -> None:
    """Between save and remember nothing moves for the loop thread."""
    store = filled(disk)
    before = everything(store)
    store.save(hard=Hard(3, 1, 10), entries=entries(9, 20, term=3), promises=Promises())
    store.make_snapshot(8, CONF, b"state")
    store.compact(7)
    assert everything(store) == before
    store.remember()
    assert (store.first_index(), store.last_index(), store.term(9)) == (8, 20, 3)
    assert store.snapshot() == Snapshot(8, 2, CONF, b"state")
    store.close()


def test_the_sequence_counts_durable_transactions_for_ever(disk: Any) -> None:
    """It moves with `remember`, one for each change, and survives: peers tell a restored copy."""
    store = filled(disk)
    assert store.sequence() == 4
    store.save(hard=Hard(3, 1, 10))
    assert store.sequence() == 4
    store.remember()
    assert store.sequence() == 5
    disk.crash()
    assert disk.open().sequence() == 5
    disk.store.close()


def test_reads_outside_of_the_log_are_told_apart(disk: Any) -> None:
    """Compacted below, Unavailable beyond; the position before the first entry has a term."""
    store = filled(disk)
    store.make_snapshot(5, CONF, b"")
    store.compact(5)
    store.compact(3)
    store.remember()
    assert (store.first_index(), store.term(5), store.term(10)) == (6, 2, 2)
    for index in (0, 4):
        with pytest.raises(Compacted):
            store.term(index)
    with pytest.raises(Compacted):
        store.entries(5, 7, None)
    with pytest.raises(Unavailable):
        store.term(11)
    with pytest.raises(Unavailable):
        store.entries(6, 12, None)
    assert [e.index for e in store.entries(6, 11, 1)] == [6]
    assert [e.index for e in store.entries(6, 11, 10_000)] == [6, 7, 8, 9, 10]
    assert 1 < len(store.entries(6, 11, 60)) < 5
    assert store.entries(6, 6, None) == []
    store.close()


def test_a_leaders_snapshot_replaces_log_and_configuration(disk: Any) -> None:
    """Entries of the same Ready follow it; all of it survives."""
    store = filled(disk)
    snapshot = Snapshot(50, 4, ConfState(voters=(1, 5)), b"x" * 100_000)
    store.save(hard=Hard(4, 0, 50), entries=entries(51, 52, term=4), snapshot=snapshot)
    store.remember()
    seen = everything(store)
    assert seen[0] == (Hard(4, 0, 50), snapshot.conf)
    assert (store.first_index(), store.last_index(), store.term(50)) == (51, 52, 4)
    disk.crash()
    assert everything(disk.open()) == seen
    disk.store.save(entries=entries(53, 53, term=4))
    disk.store.close()


def test_compaction_survives_and_the_log_goes_on(disk: Any) -> None:
    """After snapshot, compaction and a restart the chain still holds, down to an empty log."""
    store = filled(disk)
    store.save(hard=Hard(2, 3, 10))
    store.make_snapshot(10, CONF, b"state")
    store.compact(10)
    disk.crash()
    store = disk.open()
    assert (store.first_index(), store.last_index(), store.term(10)) == (11, 10, 2)
    store.save(entries=entries(11, 12, term=2))
    disk.crash()
    store = disk.open()
    assert [e.index for e in store.entries(11, 13, None)] == [11, 12]
    store.close()


@pytest.mark.parametrize(
    "change",
    [
        {"entries": entries(12, 12)},
        {"entries": [*entries(11, 11), *entries(13, 13)]},
        {"entries": entries(3, 3, term=9)},
        {"entries": entries(2, 3)},
        {"entries": entries(0, 0)},
        {"hard": Hard(1, 0, 4)},
        {"hard": Hard(2, 1, 4)},
        {"hard": Hard(2, 0, 4)},
        {"hard": Hard(2, 3, 3)},
        {"hard": Hard(2, 3, 11)},
        {"snapshot": Snapshot(3, 1)},
    ],
)
def test_what_raft_never_does_is_refused_and_writes_nothing(disk: Any, change: Any) -> None:
    """A gap, a cut of committed entries, a second vote, a term that falls: BugError, no harm."""
    store = filled(disk)
    before = everything(store)
    with pytest.raises(BugError):
        store.save(**change)
    store.save(hard=Hard(2, 3, 5))
    disk.crash()
    store = disk.open()
    assert everything(store)[1:] == before[1:]
    store.close()


def test_a_birth_is_one_transaction(disk: Any) -> None:
    """Identity and first snapshot together: a crash leaves both or neither."""
    store = disk.open()
    birth = Snapshot(1, 1, CONF, b"facts")
    store.save(hard=Hard(1, 0, 1), snapshot=birth, identity=ME)
    disk.crash()
    store = disk.open()
    assert (store.identity(), store.snapshot(), store.last_index()) == (ME, birth, 1)
    store.close()


def test_snapshots_and_compaction_stay_within_what_is_known(disk: Any) -> None:
    """No snapshot of what is not in the log, no compaction beyond the snapshot."""
    store = filled(disk)
    for index in (11, 99):
        with pytest.raises((BugError, Unavailable)):
            store.make_snapshot(index, CONF, b"")
    with pytest.raises(BugError):
        store.compact(1)
    store.close()


def test_a_failed_write_poisons_the_store(disk: Any) -> None:
    """After one failure every later write is refused, readers see nothing of it, a restart too."""
    store = filled(disk)
    before = everything(store)
    disk.fail_next()
    with pytest.raises(StoreFailed):
        store.save(promises=Promises(promise=Term(8)))
    for _ in range(2):
        with pytest.raises(StoreFailed, match="stopped after"):
            store.save(hard=Hard(9, 1, 4))
    store.remember()
    assert everything(store) == before
    store.close()


def test_an_empty_save_is_nothing(disk: Any) -> None:
    """It costs no write."""
    store = filled(disk)
    disk.fail_next()
    store.save()
    store.close()


def test_a_second_process_is_refused(disk: Any) -> None:
    """One store at a time, and again once the first has closed."""
    store = filled(disk)
    with pytest.raises(StoreBusy, match="use"):
        disk.__class__.open(disk)
    store.close()
    disk.open().close()


def test_a_closed_store_takes_no_write(disk: Any) -> None:
    """It says so."""
    store = filled(disk)
    store.close()
    with pytest.raises(BugError, match="closed"):
        store.save(hard=Hard(9, 0, 4))
