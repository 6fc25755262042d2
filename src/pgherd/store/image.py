"""The content of a store as a value in memory, and what one durable change does to it.

Owns the reading rules (Compacted, Unavailable) and the refusals of changes that would break a
promise of Raft. Both twins keep two images: one that the writer keeps, and one that readers see.
"""

from __future__ import annotations

import msgspec

from pgherd.model.errors import BugError
from pgherd.model.promises import Promises
from pgherd.raft.log import limit_size
from pgherd.raft.types import Compacted, ConfState, Entry, Hard, Snapshot, Unavailable
from pgherd.store.base import Identity


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction does. snapshot came from the leader, made is the node's own."""

    hard: Hard | None = None
    entries: tuple[Entry, ...] = ()
    snapshot: Snapshot | None = None
    made: Snapshot | None = None
    compact_to: int | None = None
    conf: ConfState | None = None
    promises: Promises | None = None
    identity: Identity | None = None


class Image:
    """Everything that a store knows. entries[0] is at base_index + 1."""

    def __init__(self) -> None:
        self.hard = Hard(0, 0, 0)
        self.conf = ConfState()
        self.base_index = 0
        self.base_term = 0
        self.log: list[Entry] = []
        self.snapshot = Snapshot()
        self.promises = Promises()
        self.identity: Identity | None = None

    def copy(self) -> Image:
        """An image of its own with the same content."""
        twin = Image()
        twin.__dict__.update(self.__dict__)
        twin.log = list(self.log)
        return twin

    @property
    def first_index(self) -> int:
        """The first index whose entry is there, or would be."""
        return self.base_index + 1

    @property
    def last_index(self) -> int:
        """The last index there; the base when there is no entry."""
        return self.base_index + len(self.log)

    def term(self, index: int) -> int:
        """The term at index, the base included."""
        if index == self.base_index:
            return self.base_term
        self._require(index, index)
        return self.log[index - self.base_index - 1].term

    def entries(self, lo: int, hi: int, max_bytes: int | None) -> list[Entry]:
        """Entries in [lo, hi) that fit into max_bytes, at least one."""
        if lo >= hi:
            return []
        self._require(lo, hi - 1)
        found = self.log[lo - self.first_index : hi - self.first_index]
        return limit_size(found, max_bytes)

    def _require(self, lo: int, hi: int) -> None:
        if lo <= self.base_index:
            raise Compacted(f"index {lo} is gone, the log begins at {self.first_index}")
        if hi > self.last_index:
            raise Unavailable(f"index {hi} is beyond the end of the log, {self.last_index}")

    def check(self, change: Change) -> None:
        """Refuse a change that breaks a promise of Raft; changes nothing."""
        base, last = self.base_index, self.last_index
        if change.snapshot is not None:
            base = last = change.snapshot.index
            if base < self.hard.commit or base <= self.snapshot.index:
                raise BugError(f"snapshot {base} is older than what is stored")
        if change.made is not None and not base <= change.made.index <= self.last_index:
            raise BugError(f"snapshot {change.made.index} is outside of the log")
        if change.entries:
            last = self._check_entries(change, base=base, last=last)
        if change.hard is not None:
            self._check_hard(change.hard, last=last)
        if change.compact_to is not None and change.compact_to > self.snapshot.index:
            raise BugError(f"compact to {change.compact_to} beyond the snapshot")

    def _check_entries(self, change: Change, *, base: int, last: int) -> int:
        first = change.entries[0].index
        if not base < first <= last + 1:
            raise BugError(f"entries begin at {first}, the log holds {base + 1} to {last}")
        for step, entry in enumerate(change.entries):
            if entry.index != first + step:
                raise BugError(f"entry {entry.index} follows {first + step - 1}")
            known = change.snapshot is None and entry.index <= self.hard.commit
            if known and self.term(entry.index) != entry.term:
                raise BugError(f"entry {entry.index} is committed and would be overwritten")
        if change.snapshot is None and change.entries[-1].index < self.hard.commit:
            raise BugError(f"committed entries after {change.entries[-1].index} would be cut")
        return change.entries[-1].index

    def _check_hard(self, hard: Hard, *, last: int) -> None:
        if hard.term < self.hard.term or hard.commit < self.hard.commit:
            raise BugError(f"hard state goes back from {self.hard} to {hard}")
        if hard.term == self.hard.term and self.hard.vote not in (0, hard.vote):
            raise BugError(f"a second vote in Raft term {hard.term}: {self.hard} to {hard}")
        if hard.commit > last:
            raise BugError(f"commit {hard.commit} is beyond the end of the log, {last}")

    def apply(self, change: Change) -> None:
        """Take the change over. It was checked, and it is durable."""
        self.identity = change.identity or self.identity
        self.promises = change.promises or self.promises
        self.conf = change.conf or self.conf
        if change.snapshot is not None:
            self.snapshot = change.snapshot
            self.conf = change.snapshot.conf
            self.base_index, self.base_term = change.snapshot.index, change.snapshot.term
            self.log = []
            self.hard = self.hard._replace(commit=change.snapshot.index)
        if change.made is not None:
            self.snapshot = change.made
            self.conf = change.made.conf
        if change.entries:
            del self.log[change.entries[0].index - self.first_index :]
            self.log.extend(change.entries)
        self.hard = change.hard or self.hard
        if change.compact_to is not None and change.compact_to > self.base_index:
            self.base_term = self.term(change.compact_to)
            del self.log[: change.compact_to - self.base_index]
            self.base_index = change.compact_to
