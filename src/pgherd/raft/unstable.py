"""The tail of the log that is not known to be stored yet, and a snapshot that waits to be.

Owns the order in which it is handed out for storing, once, and the truncation of what a newer
leader replaced. Entries stay here until storing is confirmed, so that appends to others need not
wait for the disk of this node.
"""

from __future__ import annotations

from collections.abc import Sequence

from pgherd.raft.types import Entry, Snapshot


class Unstable:
    """entries[i] has index offset + i; below `handed` they were given out for storing."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.handed = offset
        self.entries: list[Entry] = []
        self.snapshot: Snapshot | None = None
        self.snapshot_handed = False

    def last_index(self) -> int | None:
        """The last index known here; None when storage has to be asked."""
        if self.entries:
            return self.offset + len(self.entries) - 1
        return self.snapshot.index if self.snapshot else None

    def term(self, index: int) -> int | None:
        """The term at index; None when storage has to be asked."""
        if self.snapshot is not None and index == self.snapshot.index:
            return self.snapshot.term
        position = index - self.offset
        return self.entries[position].term if 0 <= position < len(self.entries) else None

    def slice(self, lo: int, hi: int) -> list[Entry]:
        """Entries in [lo, hi), lo not below offset."""
        return self.entries[lo - self.offset : hi - self.offset]

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries and drop everything from the first one's index on, handed out or not."""
        after = entries[0].index
        assert after <= self.offset + len(self.entries), f"a gap before entry {after}"
        self.entries = [*self.slice(self.offset, max(after, self.offset)), *entries]
        self.offset = min(self.offset, after)
        self.handed = min(self.handed, after)

    def restore(self, snapshot: Snapshot) -> None:
        """Replace everything by a snapshot."""
        self.offset = self.handed = snapshot.index + 1
        self.entries = []
        self.snapshot = snapshot
        self.snapshot_handed = False

    def has_waiting_entries(self) -> bool:
        """Whether something has not been handed out for storing."""
        return self.handed < self.offset + len(self.entries)

    def waiting_entries(self) -> tuple[Entry, ...]:
        """What has not been handed out for storing."""
        return tuple(self.entries[self.handed - self.offset :])

    def waiting_snapshot(self) -> Snapshot | None:
        """The snapshot, if it has not been handed out for storing."""
        return None if self.snapshot_handed else self.snapshot

    def hand_out(self) -> None:
        """All that was waiting is being stored now."""
        self.handed = self.offset + len(self.entries)
        self.snapshot_handed = self.snapshot is not None

    def stored_to(self, index: int, term: int) -> None:
        """Forget entries up to index, unless that position has been replaced meanwhile."""
        if index < self.offset or self.term(index) != term:
            return
        self.entries = self.entries[index - self.offset + 1 :]
        self.offset = index + 1
        self.handed = max(self.handed, self.offset)

    def snapshot_stored(self, index: int) -> None:
        """Forget the snapshot, unless a newer one came meanwhile."""
        if self.snapshot is not None and self.snapshot.index == index:
            self.snapshot = None
            self.snapshot_handed = False
