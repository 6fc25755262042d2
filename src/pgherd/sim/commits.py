"""Commits of the PostgreSQL model: append, group flush, the synchronous wait and its release.

The rules are those of syncrep.c: whether commits wait at all is switched by the checkpointer; a
walsender that is a synchronous standby by its own reading of the names releases waiters, counting
with its own k the walsenders that count themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pgherd.model.ids import Lsn, NodeId, Term, Timeline
from pgherd.sim.clock import MS, SECOND, Failed, Proc
from pgherd.sim.names import CLOSED, Names
from pgherd.sim.stream import Stream
from pgherd.sim.wal import Directory, Record

if TYPE_CHECKING:
    from pgherd.sim.world import World

LATE_READ = 4 * SECOND
"""How late a process reads its configuration at most, while `World.stale_chance` is above 0."""
HANGS_FOR = 50 * MS
"""How often a write that hangs is tried."""

Answer = Callable[[bool | None], None]
"""True: acknowledged. False: refused, nothing was written. None: the connection broke."""


class Session:
    """A client's backend inside COMMIT. local: its user lowered synchronous_commit to that."""

    __slots__ = ("answer", "local", "record")

    def __init__(self, record: Record, answer: Answer, *, local: bool = False) -> None:
        self.record = record
        self.answer = answer
        self.local = local


class Commits:
    """The writing side of a server; `Server` adds the rest."""

    dir: Directory | None
    proc: Proc | None
    primary: bool
    up: bool
    hung_since: int
    watched_lsn: Lsn

    def __init__(self, world: World, node: NodeId) -> None:
        self.world = world
        self.node = node
        self.clock = world.clock
        self.rng = world.rng
        self.names = CLOSED
        self.checkpointer_names = CLOSED
        self.streams: list[Stream] = []
        self.fsync_delay = 0
        self.wal_hangs = False
        self.wal_full = False
        self._synced = Lsn(0)
        self._flushing = False
        self._unflushed: list[Session] = []
        self._waiting: list[Session] = []

    def changed(self) -> None:
        """Tell the agent; in `Server`."""
        raise NotImplementedError

    def start_commits(self, names: Names) -> None:
        """A new postmaster: all its processes begin with the same names."""
        self.names = self.checkpointer_names = names
        self.streams = []
        self._synced = Lsn(0)
        self._flushing = False
        self._unflushed, self._waiting = [], []

    # -- writing ---------------------------------------------------------------------------------

    def append(
        self,
        kind: str,
        *,
        data: int = 0,
        epoch: Term | None = None,
        timeline: Timeline | None = None,
        demand: int = 0,
    ) -> Record:
        """Put a record at the end of the WAL, in memory."""
        assert self.dir is not None
        last = self.dir.wal[-1]
        record = Record(
            depth=last.depth + 1,
            epoch=last.epoch if epoch is None else epoch,
            timeline=last.timeline if timeline is None else timeline,
            kind=kind,
            data=data,
            demand=demand,
        )
        self.dir.extend([record])
        self.world.checks.on_append(self.node, record)
        return record

    def insert(self, data: int, answer: Answer, *, local: bool = False) -> None:
        """A client commits one row."""
        if not self.primary or not self.up:
            answer(False)
            return
        if self.hung_since:
            return
        record = self.append("tx", data=data)
        self._unflushed.append(Session(record, answer, local=local))
        self._want_flush()

    def write_local(self, kind: str, *, data: int = 0, epoch: Term | None = None) -> Record:
        """The agent commits with synchronous_commit = local."""
        if not self.primary or not self.up or self.hung_since:
            raise Failed("no primary takes connections here")
        record = self.append(kind, data=data, epoch=epoch)
        self._want_flush()
        return record

    def _want_flush(self) -> None:
        if not self._flushing:
            self._flushing = True
            delay = 300 + int(self.rng.random() * MS) + self.fsync_delay
            self.clock.after(delay, self._flush, proc=self.proc)

    def _flush(self) -> None:
        if self.wal_hangs:
            self.clock.after(HANGS_FOR, self._flush, proc=self.proc)
            return
        self._flushing = False
        if self.dir is None:
            return
        self.dir.flushed = len(self.dir.wal)
        for stream in self.streams:
            stream.pump()
        done, self._unflushed = self._unflushed, []
        for session in done:
            if session.local:
                session.answer(True)
            elif self.checkpointer_names.empty:
                self._acknowledge(session, self.checkpointer_names, k=0)
            elif session.record.end <= self._synced:
                self._acknowledge(session, self.checkpointer_names, k=1)
            else:
                self._waiting.append(session)

    def _acknowledge(self, session: Session, names: Names, *, k: int) -> None:
        self.world.checks.on_ack(self, session.record, names=names, k=k)
        session.answer(True)

    # -- synchronous replication -----------------------------------------------------------------

    def reload_names(self, names: Names) -> None:
        """Change the names and reload: every process reads them after its own delay."""
        self.world.herd.on_names(self, names)
        self.names = names
        for stream in self.streams:
            self.clock.after(self._lag(), stream.load, proc=self.proc)
        self.clock.after(self._lag(), self._checkpointer_reads, proc=self.proc)

    def _lag(self) -> int:
        """How long a process takes to read its configuration; a few take very long."""
        if self.rng.random() < self.world.stale_chance:
            return int(self.rng.random() * LATE_READ)
        return MS + int(self.rng.random() * 40 * MS)

    def _checkpointer_reads(self) -> None:
        self.checkpointer_names = self.names
        self.world.checks.on_sender_names(self)
        if self.names.empty:
            released, self._waiting = self._waiting, []
            for session in released:
                self._acknowledge(session, self.names, k=0)

    def release(self, stream: Stream) -> None:
        """SyncRepReleaseWaiters, called by a walsender after a confirmation or a reload."""
        if not stream.counts or stream.names.empty:
            return
        flushed = [s.flush_lsn for s in self.streams if s.counts and s.streaming and s.flush_lsn]
        k = stream.names.k
        if len(flushed) < k:
            return
        flushed.sort(reverse=True)
        synced = flushed[k - 1]
        if synced <= self._synced:
            return
        self._synced = synced
        while self._waiting and self._waiting[0].record.end <= synced:
            self._acknowledge(self._waiting.pop(0), stream.names, k=k)

    def sender_gone(self, stream: Stream) -> None:
        """A walsender has ended."""
        if stream in self.streams:
            self.streams.remove(stream)
            self.changed()

    # -- sessions --------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many commits wait for standbys."""
        return len(self._waiting)

    def committing(self) -> list[int]:
        """The rows whose COMMIT has not ended."""
        return [session.record.data for session in (*self._unflushed, *self._waiting)]

    def cancel_waits(self) -> None:
        """Cancel every wait: it ends as a success that nobody promised (PROTOCOL.md 0.5)."""
        canceled, self._waiting = self._waiting, []
        for session in canceled:
            session.answer(True)

    def drop_sessions(self, *, silent: bool) -> None:
        """Terminate client backends: what they wrote stays, nobody is told."""
        ended = [*self._unflushed, *self._waiting]
        self._unflushed, self._waiting = [], []
        if not silent:
            for session in ended:
                session.answer(None)
