"""What both twins share: reads from memory, durable changes one at a time, `remember`.

Owns the hand-over between writer thread and loop thread (a deque, whose append and popleft are
atomic). Leaves making a change durable to `_write` of the twin.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from pgherd.model.errors import BugError
from pgherd.model.promises import Promises
from pgherd.raft.types import ConfState, Entry, Hard, Snapshot
from pgherd.store.base import Identity, StoreFailed
from pgherd.store.image import Change, Image


class CachedStore:
    """The base of the twins. `_written` belongs to the writer thread, `_shown` to the loop."""

    def __init__(self, image: Image, *, sequence: int) -> None:
        self._sequence = sequence
        self._written = image
        self._shown = image.copy()
        self._durable: deque[Change] = deque()
        self._failure: StoreFailed | None = None
        self._writing = False
        self._closed = False

    def initial_state(self) -> tuple[Hard, ConfState]:
        """Hard state and configuration."""
        return self._shown.hard, self._shown.conf

    def first_index(self) -> int:
        """The first index stored, or that would be."""
        return self._shown.first_index

    def last_index(self) -> int:
        """The last index stored."""
        return self._shown.last_index

    def term(self, index: int) -> int:
        """The term at index."""
        return self._shown.term(index)

    def entries(self, lo: int, hi: int, max_bytes: int | None) -> list[Entry]:
        """Entries in [lo, hi), at least one."""
        return self._shown.entries(lo, hi, max_bytes)

    def snapshot(self) -> Snapshot:
        """The newest snapshot."""
        return self._shown.snapshot

    def promises(self) -> Promises:
        """What this member has promised."""
        return self._shown.promises

    def identity(self) -> Identity | None:
        """Whose store this is."""
        return self._shown.identity

    def sequence(self) -> int:
        """How many transactions there are."""
        return self._sequence

    def remember(self) -> None:
        """Show readers everything that became durable."""
        while self._durable:
            self._shown.apply(self._durable.popleft())
            self._sequence += 1

    def save(
        self,
        *,
        hard: Hard | None = None,
        entries: Sequence[Entry] = (),
        snapshot: Snapshot | None = None,
        promises: Promises | None = None,
        identity: Identity | None = None,
    ) -> None:
        """Store all of this or nothing."""
        change = Change(
            hard=hard,
            entries=tuple(entries),
            snapshot=snapshot,
            promises=promises,
            identity=identity,
        )
        if change != Change():
            self._make_durable(change)

    def make_snapshot(self, index: int, conf: ConfState, data: bytes) -> Snapshot:
        """Keep the node's own state after `index` as the snapshot."""
        made = Snapshot(index=index, term=self._written.term(index), conf=conf, data=data)
        self._make_durable(Change(made=made))
        return made

    def compact(self, index: int) -> None:
        """Drop entries up to and with index; nothing to do if they are gone."""
        if index > self._written.base_index:
            self._make_durable(Change(compact_to=index))

    def set_conf(self, conf: ConfState) -> None:
        """Set the configuration that a new log begins with."""
        self._make_durable(Change(conf=conf))

    def set_identity(self, identity: Identity) -> None:
        """Say whose store this is."""
        self._make_durable(Change(identity=identity))

    def _make_durable(self, change: Change) -> None:
        if self._closed:
            raise BugError("the store is closed")
        if self._failure is not None:
            raise StoreFailed(f"stopped after: {self._failure.message}", full=self._failure.full)
        if self._writing:
            raise BugError("two threads write to one store")
        self._writing = True
        try:
            self._written.check(change)
            self._written.apply(change)
            self._write(change)
        except StoreFailed as error:
            self._failure = error
            raise
        finally:
            self._writing = False

    def _write(self, change: Change) -> None:
        """Make the change durable, then append it to `_durable`; `_written` has it already.

        When it fails `_written` is ahead of the disk, which is why nothing is written after that.
        """
        raise NotImplementedError
