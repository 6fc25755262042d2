"""The log a node works with: what is stored, plus what is not stored yet.

Owns how far it is committed, handed over and applied, and the comparison of two logs. Storage may
be compacted between any two calls, so it is asked each time. Leaves whom to send what to
replicate.py. A broken promise (a committed entry replaced, a commit index beyond the log) is an
AssertionError: the node must stop, since it has lost or been told to lose agreed entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pgherd.raft.types import Compacted, Entry, Snapshot, Storage, Unavailable
from pgherd.raft.unstable import Unstable

SCAN_BYTES_MAX = 1 << 20
"""How much is read at a time when entries are only looked through."""
ENTRY_OVERHEAD_BYTES = 16
"""What an entry counts besides its data, so that empty entries are limited too."""


def entry_size(entry: Entry) -> int:
    """The unit of all size limits, in bytes."""
    return ENTRY_OVERHEAD_BYTES + len(entry.data)


def limit_size(entries: Sequence[Entry], max_bytes: int | None) -> list[Entry]:
    """The longest start of entries that fits, at least one entry. None = no limit."""
    if max_bytes is None:
        return list(entries)
    total = 0
    for count, entry in enumerate(entries):
        total += entry_size(entry)
        if count and total > max_bytes:
            return list(entries[:count])
    return list(entries)


class RaftLog:
    """Positions: applied <= handed_over <= commit <= last_index().

    What a snapshot shows as applied was agreed on, even if the stored commit index lags behind it:
    storing a moved commit index alone is not required.
    """

    def __init__(self, storage: Storage, *, commit: int, applied: int) -> None:
        base = storage.first_index() - 1
        self.storage = storage
        self.unstable = Unstable(storage.last_index() + 1)
        self.applied = max(applied, base)
        self.commit = max(commit, self.applied)
        self.handed_over = self.applied
        assert self.applied <= self.commit <= self.last_index(), (
            f"stored log does not fit: applied {self.applied}, commit {self.commit}, "
            f"last {self.last_index()}"
        )

    def first_index(self) -> int:
        """The first index whose entry can be read."""
        if self.unstable.snapshot is not None:
            return self.unstable.snapshot.index + 1
        return self.storage.first_index()

    def last_index(self) -> int:
        """The last index of the log."""
        last = self.unstable.last_index()
        return self.storage.last_index() if last is None else last

    def last_term(self) -> int:
        """The term of the last entry."""
        return self.term(self.last_index())

    def term(self, index: int) -> int:
        """The term at index; raises Compacted or Unavailable outside the log."""
        known = self.unstable.term(index)
        if known is not None:
            return known
        if index < self.first_index() - 1:
            raise Compacted(index)
        if index >= self.unstable.offset:
            raise Unavailable(index)
        return self.storage.term(index)

    def term_or_none(self, index: int) -> int | None:
        """The term at index; None outside the log."""
        try:
            return self.term(index)
        except LookupError:
            return None

    def matches(self, index: int, term: int) -> bool:
        """Whether the log has this term at this index."""
        return self.term_or_none(index) == term

    def is_as_new(self, *, index: int, term: int) -> bool:
        """Whether a log that ends there is at least as new as this one (paper 5.4.1)."""
        return (term, index) >= (self.last_term(), self.last_index())

    def slice(self, lo: int, hi: int, max_bytes: int | None) -> list[Entry]:
        """Entries in [lo, hi) that fit, at least one; raises Compacted."""
        if lo >= hi:
            return []
        if lo < self.first_index():
            raise Compacted(lo)
        offset = self.unstable.offset
        if lo >= offset:
            return limit_size(self.unstable.slice(lo, hi), max_bytes)
        cut = min(hi, offset)
        stored = self.storage.entries(lo, cut, max_bytes)
        if hi <= offset or len(stored) < cut - lo:
            return list(stored)
        return limit_size([*stored, *self.unstable.slice(cut, hi)], max_bytes)

    def nearest_index(self, index: int, term: int) -> tuple[int, int]:
        """The largest index <= index whose term is <= term, and its term.

        A position whose term is unknown counts as found, with term 0: the answer is a guess from
        where to compare two logs next, and is verified there.
        """
        while index > 0:
            own = self.term_or_none(index)
            if own is None:
                return index, 0
            if own <= term:
                return index, own
            index -= 1
        return 0, 0

    def append(self, entries: Sequence[Entry]) -> int:
        """Put entries at their index and cut what was there; the new last index."""
        if entries:
            assert entries[0].index > self.commit, (
                f"entry {entries[0].index} would replace a committed one (commit {self.commit})"
            )
            self.unstable.append(entries)
        return self.last_index()

    def append_from_leader(
        self, entries: Sequence[Entry], *, prev: int, prev_term: int, commit: int
    ) -> int | None:
        """Take what a leader sent behind prev; the last index verified, None if prev differs.

        Cuts only from the first entry with another term: an old, short append that arrives late
        must not remove what was acknowledged since. Commits only what this message verified.
        """
        if not self.matches(prev, prev_term):
            return None
        for position, entry in enumerate(entries):
            if not self.matches(entry.index, entry.term):
                self.append(entries[position:])
                break
        verified = prev + len(entries)
        self.commit_to(min(commit, verified))
        return verified

    def restore(self, snapshot: Snapshot) -> None:
        """Replace the log by a snapshot."""
        self.commit = snapshot.index
        self.unstable.restore(snapshot)

    def commit_to(self, index: int) -> None:
        """Note that all up to index is agreed on; never goes back."""
        if index > self.commit:
            assert index <= self.last_index(), (
                f"told to commit {index}, but the log ends at {self.last_index()}: entries are lost"
            )
            self.commit = index

    def applied_to(self, index: int) -> None:
        """Note that the state machine has all up to index."""
        if index > self.applied:
            assert index <= self.commit, f"applied {index} is beyond commit {self.commit}"
            self.applied = index
            self.handed_over = max(self.handed_over, index)

    def has_committed_waiting(self) -> bool:
        """Whether there is something to hand over; nothing while a snapshot waits."""
        return self.unstable.snapshot is None and self.handed_over < self.commit

    def committed_waiting(self, max_bytes: int | None) -> tuple[Entry, ...]:
        """The next committed entries to hand over."""
        if not self.has_committed_waiting():
            return ()
        return tuple(self.slice(self.handed_over + 1, self.commit + 1, max_bytes))

    def has_unapplied_conf(self) -> bool:
        """Whether a committed configuration change is still to be applied."""
        return any(entry.type != "normal" for entry in self._unapplied())

    def _unapplied(self) -> Iterator[Entry]:
        """Committed entries that are not applied, read in pieces."""
        index = self.applied + 1
        while index <= self.commit:
            entries = self.slice(index, self.commit + 1, SCAN_BYTES_MAX)
            yield from entries
            index += len(entries)
