"""The port of the store: who may call what from which thread, and what may go wrong.

Theory of operation. Everything durable goes through one *writer thread*, everything is read on the
*loop thread* from memory, and the two never share mutable state:

    loop thread                                 writer thread
    rd = node.ready()
      ---- save(hard, entries, ...) ----------> one transaction, fsync, return
    store.remember()   <------------------------ (done)
    send rd.messages, node.advance(rd)

`save` (and `make_snapshot`, `compact`, `set_conf`, `set_identity`) returns once its one
transaction is on disk, and changes nothing that a reader sees. `remember`, on the loop thread,
shows readers all that became durable since. So no reader ever sees what a crash could take back.
After a StoreFailed the store takes no more writes: what the disk holds is unknown until it is
opened again (fsync is never retried).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import msgspec

from pgherd.model.errors import OperatorError, PgherdError
from pgherd.model.ids import NodeId, RaftId
from pgherd.model.promises import Promises
from pgherd.raft.types import ConfState, Entry, Hard, Snapshot


class Identity(msgspec.Struct, frozen=True):
    """Whose store this is. store_incarnation: made anew with every new store, never re-used."""

    cluster: str
    node: NodeId
    raft_id: RaftId
    store_incarnation: str


class StoreBusy(OperatorError):
    """Another process uses this directory."""


class StoreUnusable(OperatorError):
    """The directory cannot be used as it stands: permissions, a newer format, not a directory."""


class StoreDamaged(OperatorError):
    """What was promised is not all there: this node has amnesia and must not vote with it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the Raft store is damaged: {what}",
            "a member is re-admitted by the others when its daemon starts; a copy is kept",
        )


class StoreWentBack(OperatorError):
    """The store is whole and old: it has forgotten what its peers have seen it promise."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the Raft store is of the past: {what}",
            "PostgreSQL is left as it is, but this node must not vote again with what it forgot; "
            "find out first whether another machine runs as this node; if this directory or this "
            "machine was set back, here: pgherd raft readmit",
        )


class StoreFailed(PgherdError):
    """A write failed. full: for lack of space, so that it can go on once there is room."""

    def __init__(self, what: str, *, full: bool = False) -> None:
        hint = "free some space; the node takes part again by itself" if full else "check the disk"
        super().__init__(f"the Raft store cannot write: {what}", hint)
        self.full = full


class Store(Protocol):
    """A durable store. It satisfies `pgherd.raft.types.Storage`; reads are from memory."""

    # On the loop thread.

    def initial_state(self) -> tuple[Hard, ConfState]:
        """Hard state, and the configuration of the newest of snapshot, make_snapshot, set_conf.

        Entries behind that position are applied again after a restart.
        """

    def first_index(self) -> int:
        """The first index whose entry is stored, or would be."""

    def last_index(self) -> int:
        """The last index stored; first_index() - 1 when there is none."""

    def term(self, index: int) -> int:
        """The term at index, from first_index() - 1 on; raises Compacted, Unavailable."""

    def entries(self, lo: int, hi: int, max_bytes: int | None) -> list[Entry]:
        """Entries in [lo, hi) that fit into max_bytes, at least one; Compacted, Unavailable."""

    def snapshot(self) -> Snapshot:
        """The newest snapshot; index 0 when there is none."""

    def promises(self) -> Promises:
        """What this member has promised; the empty promises of a new store."""

    def identity(self) -> Identity | None:
        """Whose store this is; None while it is new."""

    def sequence(self) -> int:
        """How many transactions this store has, counted since it was made; it never goes back."""

    def remember(self) -> None:
        """Show readers everything that became durable since the last call."""

    # On the writer thread; each is one durable transaction.

    def save(
        self,
        *,
        hard: Hard | None = None,
        entries: Sequence[Entry] = (),
        snapshot: Snapshot | None = None,
        promises: Promises | None = None,
        identity: Identity | None = None,
    ) -> None:
        """Store all of this or nothing; return after the fsync. Raises StoreFailed.

        A snapshot replaces log and configuration; entries replace what they conflict with and all
        that follows. A change that breaks a promise of Raft raises BugError and writes nothing.
        """

    def make_snapshot(self, index: int, conf: ConfState, data: bytes) -> Snapshot:
        """Keep this node's own state after `index` as the snapshot; the log stays as it is."""

    def compact(self, index: int) -> None:
        """Drop entries up to and with index; it must be covered by the snapshot."""

    def set_conf(self, conf: ConfState) -> None:
        """Set the configuration that a new log begins with."""

    def set_identity(self, identity: Identity) -> None:
        """Say whose store this is."""

    # When the writer thread is idle.

    def close(self) -> None:
        """Release the directory. Twice is safe."""
