"""A PostgreSQL server as the protocol sees it: a data directory, and perhaps processes on it.

Owns starting, stopping, crashing, replay, following, promotion, rewind and base backup; the rules
of commits are in `commits`. Modelled on PROTOCOL.md 0: the startup process, not the reload, ends a
walreceiver; a restarted standby does not know its received LSN; a promotion takes the highest known
timeline plus one; pg_rewind goes back to the last common checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pgherd.model.ids import (
    Lsn,
    MemberKey,
    NodeId,
    Position,
    Term,
    Timeline,
    feed_slot,
    forward_slot,
    slot_name,
)
from pgherd.model.observation import Server as State
from pgherd.sim.clock import MS, SECOND, Failed, Proc
from pgherd.sim.commits import Commits
from pgherd.sim.names import CLOSED, Names
from pgherd.sim.parameters import Parameters
from pgherd.sim.stream import Stream
from pgherd.sim.wal import RECORD_BYTES, Directory, Record

if TYPE_CHECKING:
    from pgherd.sim.world import World

HUNG_AFTER = 1500 * MS
RECONNECT = 200 * MS
POLL = 100 * MS


class Upstream(NamedTuple):
    """What primary_conninfo names; in a fast-forward under no term, and through its own slot.

    leader: whom it follows, where it streams from another follower.
    """

    node: NodeId
    key: MemberKey
    term: Term
    borrowed: bool = False
    leader: NodeId | None = None

    @property
    def slot(self) -> str:
        if self.leader is not None:
            return feed_slot(self.key.node, self.term)
        return (forward_slot if self.borrowed else slot_name)(self.key.node)


OLDEST = 150001
"""The version that every server begins with."""


class Server(Commits):
    """The server of one node."""

    def __init__(self, world: World, node: NodeId) -> None:
        super().__init__(world, node)
        self.dir: Directory | None = None
        self.proc: Proc | None = None
        self.primary = False
        self.up = False
        self.hung_since = self.awake_since = 0
        self.upstream: Upstream | None = None
        self.receiver: Stream | None = None
        self.replayed = 0
        self.replay_delay = self.apply_delay = 0
        self.watched_lsn = Lsn(0)
        self.clean = False
        self.paused_replay = False
        self.long_recovery = False
        self.promotions = self.starts = 0
        self.build = self.installed = OLDEST
        self.parameters = Parameters()
        self.by_hand = False
        self._replaying = False
        self._reconfigure = False
        self._connecting = False

    # -- what can be seen ------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What its own agent would find."""
        if self.dir is None:
            return State.NONE
        if self.proc is None:
            return State.STOPPED
        if self.hung_since and self.clock.now - self.hung_since > HUNG_AFTER:
            return State.HUNG
        if not self.up or (not self.primary and self.replayed < self.dir.needs):
            return State.STARTING
        return State.PRIMARY if self.primary else State.STANDBY

    @property
    def parked(self) -> bool:
        """No receiver, and replay has reached the end of the local WAL."""
        directory = self.dir
        return (
            directory is not None
            and self.receiver is None
            and not self._replaying
            and not self.paused_replay
            and self.replayed == len(directory.wal)
        )

    def position(self) -> Position | None:
        """Replayed end of a standby, durable end of a primary; None without a server."""
        if self.dir is None or self.state not in (State.STANDBY, State.PRIMARY):
            return None
        return self.dir.position(self.dir.flushed if self.primary else max(1, self.replayed))

    def changed(self) -> None:
        """Something that the agent would notice has happened."""
        self.world.poke(self.node)

    # -- starting and stopping -------------------------------------------------------------------

    def start(self, upstream: Upstream | None = None) -> None:
        """Start as a standby under closed names."""
        if self.dir is None or self.proc is not None:
            raise Failed("cannot start: no directory, or it runs")
        self.world.herd.on_start(self)
        self.proc = Proc(f"{self.node} postgres")
        self.starts += 1
        self.build = self.installed
        self.parameters.started(self.dir)
        self.primary = self.up = self.clean = self.paused_replay = False
        self.hung_since = 0
        self.upstream, self.receiver, self.apply_delay = upstream, None, 0
        self.replayed = self.dir.last_checkpoint(len(self.dir.wal))
        self.dir.production = False
        self._replaying = self._connecting = self._reconfigure = False
        self.start_commits(CLOSED)
        slow = 6 if self.rng.random() < 0.05 else 1
        delay = (200 + self.rng.randrange(600)) * MS * slow
        self.clock.after(delay, self._opened, proc=self.proc)

    def _opened(self) -> None:
        if self.long_recovery:
            self.clock.after(POLL, self._opened, proc=self.proc)
            return
        if self.wal_full or self.parameters.bad:
            self.crash()
            return
        self.up = True
        self._replay()
        self.changed()

    def crash(self, *, host: bool = False) -> None:
        """Every process is gone at once; with the host, unflushed WAL is gone as well."""
        if self.proc is None or self.dir is None:
            return
        kept = self.dir.flushed
        if not host:
            kept = self.rng.randint(kept, len(self.dir.wal))
        self.dir.cut(kept)
        self.dir.flushed = kept
        self._end(host=host)

    def _end(self, *, host: bool) -> None:
        assert self.proc is not None
        self.proc.kill()
        self.proc = None
        self.primary = self.up = False
        self.drop_sessions(silent=host)
        for stream in list(self.streams):
            if host:
                stream.host_lost(self.node)
                self.sender_gone(stream)
            else:
                stream.close_up()
        if self.receiver is not None:
            receiver = self.receiver
            if host:
                receiver.host_lost(self.node)
                self.receiver = None
            else:
                receiver.close_down()
        self.changed()

    def stop_fast(self) -> None:
        """Fast stop: sessions end without an answer, standbys get the shutdown checkpoint."""
        if self.proc is None or self.dir is None:
            return
        self.drop_sessions(silent=False)
        if self.wal_hangs and self.primary:
            return
        if self.primary and self.up:
            self.up = False
            record = self.append("shutdown")
            self.dir.flushed = len(self.dir.wal)
            for stream in self.streams:
                stream.pump()
            self._await_standbys(record, self.clock.now + 6 * SECOND)
        else:
            self.clock.after((10 + self.rng.randrange(40)) * MS, self._stopped, proc=self.proc)

    def _await_standbys(self, record: Record, limit: int) -> None:
        behind = [s for s in self.streams if s.flush_lsn < record.end]
        if behind and self.clock.now < limit:
            self.clock.after(10 * MS, self._await_standbys, record, limit, proc=self.proc)
        else:
            self._stopped()

    def _stopped(self) -> None:
        assert self.dir is not None
        self.dir.flushed = len(self.dir.wal)
        self.clean = True
        self._end(host=False)

    # -- replay and following --------------------------------------------------------------------

    def _replay(self) -> None:
        if self._replaying or self.primary or not self.up or self.paused_replay:
            return
        self._replaying = True
        delay = 300 + int(self.rng.random() * 2 * MS) + self.replay_delay + self.apply_delay
        self.clock.after(delay, self._replayed_more, proc=self.proc)

    def _replayed_more(self) -> None:
        self._replaying = False
        if self.dir is None or self.primary:
            return
        before, self.replayed = self.replayed, self.parameters.replayable(self.dir, self.replayed)
        self.dir.replayed = max(self.dir.replayed, self.replayed)
        if self.parameters.short:
            self.changed()
        elif self.replayed < len(self.dir.wal):
            if self.receiver is None:
                self.dir.flushed = len(self.dir.wal)
            self._replay()
        if before < self.dir.needs <= self.replayed:
            self.changed()
        self._needs_wal()

    def resume_replay(self) -> None:
        """pg_wal_replay_resume."""
        if self.parameters.short:
            self.crash()  # the server ends what it cannot go on with
        if self.paused_replay:
            self.paused_replay = False
            self._replay()

    def follow(self, upstream: Upstream | None, *, late: bool = False) -> None:
        """Set primary_conninfo and reload: it takes effect when replay next needs WAL.

        late: the delay of replay stays as it is.
        """
        self.upstream, self.apply_delay = upstream, self.apply_delay if late else 0
        self.clock.after((2 + self.rng.randrange(30)) * MS, self._reloaded, proc=self.proc)

    def _reloaded(self) -> None:
        self._reconfigure = True
        self._needs_wal()

    def _needs_wal(self) -> None:
        """The startup process has replayed everything: now it looks at its configuration."""
        if self.primary or not self.up or self.dir is None or self.replayed < len(self.dir.wal):
            return
        if self.paused_replay:
            return
        if self._reconfigure:
            self._reconfigure = False
            if self.receiver is not None and not self._receives_from(self.upstream):
                self.receiver.close_down()
        if self.upstream is not None and self.receiver is None and not self._connecting:
            self._connecting = True
            self.clock.after(5 * MS, self._connect, proc=self.proc)

    def _receives_from(self, upstream: Upstream | None) -> bool:
        stream = self.receiver
        return (
            stream is not None
            and upstream is not None
            and (stream.up.node, stream.key, stream.term)
            == (upstream.node, upstream.key, upstream.term)
        )

    def _connect(self) -> None:
        self._connecting = False
        if self.upstream is None or self.receiver is not None or self.primary:
            return
        if not self._handshake(self.upstream):
            self._connecting = True
            self.clock.after(RECONNECT, self._connect, proc=self.proc)

    def _handshake(self, upstream: Upstream) -> bool:
        """START_REPLICATION: by timeline and LSN alone, as PostgreSQL does it."""
        net, server, mine = self.world.net, self.world.server(upstream.node), self.dir
        if net.apart(self.node, upstream.node, "sql"):
            return False
        if mine is None or server.dir is None or not server.accepts_standby():
            return False
        if upstream.slot not in server.dir.slots or server.holds_slot_of(self.node):
            return False
        start = len(mine.wal)
        if mine.timeline > server.dir.timeline or start > server.dir.flushed:
            return False
        end = server.dir.branch_end(mine.timeline)
        if end is None or start > end or start < server.dir.oldest:
            return False
        self.world.checks.on_join(self, server)
        mine.known = max(mine.known, server.dir.timeline)
        mine.flushed = len(mine.wal)
        self.receiver = Stream(server, self, key=upstream.key, term=upstream.term, start=start)
        self.receiver.fed = upstream.leader is not None
        server.streams.append(self.receiver)
        self.receiver.confirm(mine.wal[-1].end)
        self.clock.after(MS, self.receiver.pump, proc=server.proc)
        server.changed()
        self.changed()
        return True

    def holds_slot_of(self, node: NodeId) -> bool:
        """Whether a walsender, perhaps of a lost host, still uses the slot: nobody else may then.

        Else one member could be counted twice.
        """
        return any(stream.down.node == node for stream in self.streams)

    def accepts_standby(self) -> bool:
        """Whether a replication connection would be served."""
        proc = self.proc
        return proc is not None and not proc.paused and not self.hung_since and self.up

    def receive(self, stream: Stream, start: int, records: list[Record]) -> None:
        """WAL has arrived in memory; it is durable a little later."""
        directory = self.dir
        if self.receiver is not stream or directory is None:
            return
        assert start == len(directory.wal), (self.node, start, len(directory.wal))
        directory.extend(records)
        self.world.checks.on_receive(self)
        delay = 200 + int(self.rng.random() * MS) + self.fsync_delay
        self.clock.after(delay, self._received_durably, stream, proc=self.proc)

    def _received_durably(self, stream: Stream) -> None:
        if self.receiver is not stream or self.dir is None:
            return
        if self.dir.flushed < len(self.dir.wal):
            self.dir.flushed = len(self.dir.wal)
            stream.confirm(self.dir.wal[-1].end)
            self._replay()
            for mine in self.streams:
                mine.pump()

    def receiver_gone(self, stream: Stream) -> None:
        """The walreceiver ended: it leaves everything that it got flushed."""
        if self.receiver is not stream or self.dir is None:
            return
        self.receiver = None
        self.dir.flushed = len(self.dir.wal)
        if self.proc is not None and self.proc.alive:
            self._replay()
            self.changed()

    def terminate_receiver(self) -> None:
        """SIGTERM to the walreceiver."""
        if self.receiver is not None:
            self.clock.after(2 * MS, self.receiver.close_down, proc=self.proc)

    # -- changing sides --------------------------------------------------------------------------

    def promote(self, *, by_hand: bool = False) -> None:
        """pg_promote: goes on whatever becomes of the caller. by_hand: no agent asked for it."""
        if self.state is not State.STANDBY:
            raise Failed("pg_promote: not a running standby")
        self.resume_replay()
        delay = (60 + self.rng.randrange(200)) * MS
        self.clock.after(delay, self._promoted, by_hand, proc=self.proc)

    def _promoted(self, by_hand: bool) -> None:
        directory = self.dir
        if self.primary or directory is None:
            return
        if self.receiver is not None:
            self.receiver.close_down()
        if self.replayed < len(directory.wal):
            self.clock.after(10 * MS, self._promoted, by_hand, proc=self.proc)
            return
        self.upstream = None
        timeline = Timeline(max(directory.known, directory.timeline) + 1)
        directory.known = timeline
        self.primary = directory.production = True
        self.promotions += 1
        self.append("timeline", timeline=timeline, demand=self.parameters.running)
        directory.replayed = len(directory.wal)
        directory.flushed = len(directory.wal)
        self.world.log(self.node, "promoted", directory.wal[-1], "by hand" if by_hand else "")
        self.by_hand = by_hand
        if not by_hand:
            self.world.checks.on_promoted(self)
        for stream in self.streams:
            stream.pump()
        self.changed()

    def divergence(self, source: Server) -> Lsn:
        """What pg_rewind --dry-run says: where the two timeline histories part."""
        mine, theirs = self.dir, source.dir
        if self.proc is not None or mine is None or theirs is None or not source.primary:
            raise Failed("pg_rewind: needs a stopped target and a running primary")
        if mine.timeline == theirs.control:
            raise Failed("pg_rewind: no rewind required")
        forked = 0
        for (a, a_first), (b, b_first) in zip(mine.branches, theirs.branches, strict=False):
            if (a, a_first) != (b, b_first):
                break
            forked = min(mine.branch_end(a) or 0, theirs.branch_end(b) or 0)
        return Lsn(forked * RECORD_BYTES)

    def rewind(self, source: Server) -> None:
        """pg_rewind: back to the last common checkpoint; needs the source's WAL to come up."""
        forked = self.divergence(source) // RECORD_BYTES
        mine, theirs = self.dir, source.dir
        assert mine is not None
        assert theirs is not None
        mine.cut(mine.last_checkpoint(forked))
        mine.slots = ()
        mine.replayed = min(mine.replayed, len(mine.wal))
        self.parameters.ran = source.parameters.ran
        mine.needs = theirs.flushed
        mine.known = max(mine.known, theirs.known)

    def become(self, directory: Directory) -> None:
        """Put a new data directory in place of the old one; the server is stopped."""
        if self.proc is not None:
            raise Failed("the server runs")
        self.dir = directory
        self.replayed = 0
        self.by_hand = False
        self.changed()

    def lose_data(self) -> None:
        """The data directory is gone."""
        self.crash(host=True)
        self.dir = None
        self.changed()

    def hang(self) -> None:
        """The postmaster takes no new connection; what runs goes on."""
        if self.proc is not None and self.up:
            self.hung_since = self.clock.now
            self.clock.after(HUNG_AFTER + MS, self.changed, proc=self.proc)


__all__ = ["Names", "Server", "Upstream"]
