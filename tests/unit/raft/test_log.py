"""Proves how the log takes, keeps and cuts entries, with a stored and an unstored part."""

from __future__ import annotations

import pytest
from tests.unit.raft.network import MemoryStorage

from pgherd.raft.conformance import (
    Compacted,
    ConfState,
    Entry,
    Hard,
    Ready,
    Snapshot,
    Unavailable,
    entry_size,
)
from pgherd.raft.log import RaftLog, limit_size


def entries(*terms: int, start: int = 1) -> list[Entry]:
    """Entries of these terms, one after the other."""
    return [Entry(term=term, index=start + n, data=b"d") for n, term in enumerate(terms)]


def log_of(*terms: int, stored: int | None = None, commit: int = 0) -> RaftLog:
    """A log whose first `stored` entries are in storage (all by default)."""
    count = len(terms) if stored is None else stored
    storage = MemoryStorage(ConfState())
    storage.save(Ready(entries=tuple(entries(*terms)[:count]), hard=Hard(0, 0, commit)))
    log = RaftLog(storage, commit=commit, applied=0)
    log.append(entries(*terms)[count:])
    return log


def terms_of(log: RaftLog) -> list[int]:
    return [one.term for one in log.slice(log.first_index(), log.last_index() + 1, None)]


@pytest.mark.parametrize("stored", range(5))
def test_stored_and_unstored_entries_read_as_one_log(stored: int) -> None:
    """Wherever the border is, reading gives the same, with and without a limit."""
    log = log_of(1, 1, 2, 3, stored=stored)
    assert terms_of(log) == [1, 1, 2, 3]
    assert (log.first_index(), log.last_index(), log.last_term()) == (1, 4, 3)
    assert [one.index for one in log.slice(2, 5, 2 * entry_size(Entry(data=b"d")))] == [2, 3]
    assert [one.index for one in log.slice(2, 5, 0)] == [2]


def test_terms_outside_the_log_are_refused() -> None:
    """The position before the first entry is known, others are not."""
    log = log_of(1, 2)
    log.storage.compact(Snapshot(index=1, term=1))  # type: ignore[attr-defined]
    assert log.term(1) == 1
    with pytest.raises(Compacted):
        log.term(0)
    with pytest.raises(Compacted):
        log.slice(1, 3, None)
    with pytest.raises(Unavailable):
        log.term(3)
    assert log.term_or_none(3) is None


@pytest.mark.parametrize("stored", range(4))
@pytest.mark.parametrize(
    ("prev", "prev_term", "new", "expected", "verified"),
    [
        (3, 3, [4], [1, 2, 3, 4], 4),
        (0, 0, [1], [1, 2, 3], 1),  # an old, short append cuts nothing
        (1, 1, [2], [1, 2, 3], 2),
        (1, 1, [4], [1, 4], 2),
        (0, 0, [1, 3, 3], [1, 3, 3], 3),
        (2, 2, [], [1, 2, 3], 2),
        (2, 3, [4], [1, 2, 3], None),
        (5, 3, [4], [1, 2, 3], None),
    ],
)
def test_only_a_conflict_cuts_the_log(
    stored: int, prev: int, prev_term: int, new: list[int], expected: list[int], verified: int
) -> None:
    """Paper 5.3, receiver rules 2 to 4."""
    log = log_of(1, 2, 3, stored=stored)
    taken = log.append_from_leader(
        entries(*new, start=prev + 1), prev=prev, prev_term=prev_term, commit=0
    )
    assert (taken, terms_of(log)) == (verified, expected)


@pytest.mark.parametrize(("told", "expected"), [(1, 1), (2, 2), (3, 2)])
def test_commit_goes_no_further_than_what_the_message_verified(told: int, expected: int) -> None:
    """The tail behind it may differ from the leader's (paper 5.3, receiver rule 5)."""
    log = log_of(1, 1, 1)
    log.append_from_leader(entries(1, start=2), prev=1, prev_term=1, commit=told)
    assert log.commit == expected


def test_a_committed_entry_is_never_replaced() -> None:
    """Two leaders disagree about it: something below is broken, so the node stops."""
    log = log_of(1, 1, commit=2)
    with pytest.raises(AssertionError, match="committed"):
        log.append_from_leader(entries(2, start=2), prev=1, prev_term=1, commit=2)
    with pytest.raises(AssertionError, match="lost"):
        log.commit_to(3)


def test_a_log_that_lost_its_committed_end_does_not_start() -> None:
    """A node that restarts with less than it had agreed to must not take part."""
    storage = MemoryStorage(ConfState())
    with pytest.raises(AssertionError, match="does not fit"):
        RaftLog(storage, commit=3, applied=0)


@pytest.mark.parametrize(
    ("index", "term", "is_as_new"),
    [(3, 3, True), (1, 4, True), (4, 3, True), (2, 3, False), (9, 2, False)],
)
def test_newer_means_later_term_then_longer(index: int, term: int, is_as_new: bool) -> None:
    """The election restriction of paper 5.4.1."""
    assert log_of(1, 2, 3).is_as_new(index=index, term=term) is is_as_new


@pytest.mark.parametrize(
    ("index", "term", "expected"),
    [(5, 3, (2, 2)), (5, 5, (5, 5)), (1, 0, (0, 0)), (2, 9, (2, 2)), (4, 1, (1, 1))],
)
def test_nearest_index_skips_terms_that_cannot_match(
    index: int, term: int, expected: tuple[int, int]
) -> None:
    """The guess from where two logs may be equal."""
    assert log_of(1, 2, 5, 5, 5).nearest_index(index, term) == expected


def test_nearest_index_stops_where_the_log_is_gone() -> None:
    """Below the snapshot nothing is known, so the guess is as good as any."""
    log = log_of(5, 5, 5)
    log.storage.compact(Snapshot(index=2, term=5))  # type: ignore[attr-defined]
    assert log.nearest_index(3, 1) == (1, 0)


def test_storing_forgets_only_what_was_not_replaced_meanwhile() -> None:
    """A confirmation for an entry that a newer leader replaced says nothing of the new one."""
    log = log_of(1, 1, stored=0)
    log.unstable.hand_out()
    log.append(entries(2, start=2))
    assert [one.term for one in log.unstable.waiting_entries()] == [2]
    log.unstable.stored_to(2, 1)
    assert len(log.unstable.entries) == 2
    log.unstable.stored_to(1, 1)
    assert log.unstable.offset == 2


def test_a_snapshot_replaces_the_log_and_holds_back_committed_entries() -> None:
    """Nothing is handed over before the state behind it is there."""
    log = log_of(1, 1, 1, commit=2)
    log.restore(Snapshot(index=9, term=4))
    assert (log.first_index(), log.last_index(), log.last_term(), log.commit) == (10, 9, 4, 9)
    assert not log.has_committed_waiting()
    assert log.committed_waiting(None) == ()
    log.unstable.hand_out()
    assert log.unstable.waiting_snapshot() is None
    log.unstable.snapshot_stored(8)
    assert log.unstable.snapshot is not None
    log.unstable.snapshot_stored(9)
    assert log.unstable.snapshot is None


def test_a_limit_lets_at_least_one_entry_through() -> None:
    """A single entry above the limit must not stop replication for ever."""
    many = entries(1, 1, 1)
    size = entry_size(many[0])
    assert [len(limit_size(many, limit)) for limit in (0, size, 2 * size, None)] == [1, 1, 2, 3]
    assert entry_size(Entry()) > 0
