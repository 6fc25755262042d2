"""One simulated server: the production core, store and order of a round, on a simulated machine.

Owns what the daemon's driver owns: when a Ready is stored, which messages may leave before that,
when a snapshot is made, and what a failed write means (stop, never retry). The order is that of
store/replica.py; the state machine is machine.py. The disk takes its time, and can be slow, hang,
fill up, fail or forget. Leaves every decision to `pgherd.raft`, every check to checker.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pgherd.model.errors import BugError
from pgherd.raft.confchange import decode_conf_change
from pgherd.raft.node import RaftNode
from pgherd.raft.types import (
    PERSISTENT_REPLIES,
    Config,
    ConfOp,
    Entry,
    Msg,
    ProposalDropped,
    Ready,
    StepPeerNotFound,
)
from pgherd.sim.clock import MS, SECOND, Proc
from pgherd.sim.raft.machine import EXPIRE, RENEW, Command, Machine, Outcome, encode
from pgherd.store.base import StoreDamaged, StoreFailed
from pgherd.store.memory import MemoryDisk, MemoryStore

if TYPE_CHECKING:
    from pgherd.sim.raft.group import Group

TICK_US = 100 * MS
SNAPSHOT_SENT_AFTER = 2 * SECOND
LEASE_TICKS = 30
FSYNC_BASE_US = 150
FSYNC_SPREAD_US = 1500

Reply = Callable[[Outcome | None, int], None]
"""What became of a request: the outcome (None = not here), and the leader that is known of."""


class Server:
    """A Raft id on a disk, and the process that has it open while `up`."""

    node: RaftNode
    store: MemoryStore

    def __init__(self, group: Group, *, slot: int, raft_id: int) -> None:
        self.group = group
        self.slot = slot
        self.id = raft_id
        self.disk = MemoryDisk()
        self.proc = Proc(f"{raft_id}")
        self.up = False
        self.has_amnesia = False
        self.was_member = False
        self.comes_back = False
        self.machine = Machine()
        self.applied = 0
        self.drift = 1.0
        self.wall_step = 0
        self.fsync_slow: tuple[int, int] | None = None
        self.disk_stuck = ""
        self.in_write: Callable[[int], None] | None = None
        self._clear()

    def _clear(self) -> None:
        """What a process forgets when it ends."""
        self._storing: Ready | None = None
        self._imaging = False
        self._wait_all = False
        self._held: list[Msg] = []
        self._members_changed = False
        self._waiting: dict[tuple[int, int], Reply] = {}
        self._reads: dict[bytes, Reply] = {}
        self._reads_due: list[tuple[int, bytes]] = []
        self._deadlines: dict[int, tuple[int, int]] = {}
        self._ticks = 0
        self._led = 0

    # -- life --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the disk and take part; with a damaged disk it has amnesia and does not."""
        assert not self.up
        try:
            self.store = self.open_store()
        except StoreDamaged:
            self.has_amnesia = True
            self.group.effects["amnesia_declared"] += 1
            self.group.note(self, "has amnesia and takes no part")
            return
        self.group.checker.opened(self)
        self._clear()
        self.proc = Proc(f"{self.id}")
        snapshot = self.store.snapshot()
        self.machine.restore(snapshot.data)
        self.applied = snapshot.index
        self.node = RaftNode(self.config(snapshot.index), self.store)
        self.up = True
        self.group.note(self, "starts")
        self.group.checker.restored(self, self.node.conf)
        self._after_ticks(self.group.random() * self.tick_us())
        self.poke()

    def open_store(self) -> MemoryStore:
        """Open what the disk holds; raises StoreDamaged."""
        return MemoryStore(self.disk, manual_sync=True)

    def config(self, applied: int) -> Config:
        """As the daemon configures the core; sizes and paces come from the seed."""
        options = self.group.options
        return Config(
            id=self.id,
            rng=self.group.draw,
            election_tick=options.election_tick,
            heartbeat_tick=options.heartbeat_tick,
            pre_vote=options.pre_vote,
            check_quorum=True,
            step_down_on_removal=True,
            max_inflight=options.max_inflight,
            max_size_per_msg=options.max_size_per_msg,
            max_committed_size_per_ready=options.max_committed_size_per_ready,
            applied=applied,
        )

    def crash(self) -> None:
        """End at once. What was not synced is lost, or happened to reach the disk just before."""
        if not self.up:
            return
        if self.group.random() < 0.5:
            try:
                self._write_out()
            except StoreFailed:
                pass  # torn: the transaction was cut on its way
        if self.store.unsynced:
            self.group.effects["unsynced_write_lost"] += 1
        self._end("crashes")

    def _end(self, why: str) -> None:
        self.up = False
        self.proc.kill()
        self.store.crash()
        self.group.checker.ended(self)
        self.group.note(self, why)

    def pause(self) -> None:
        """Stop the process; what arrives waits in its buffers."""
        self.proc.paused = True

    def resume(self) -> None:
        """Let it go on with what it missed."""
        if self.proc.paused:
            self.group.clock.resume(self.proc)

    # -- time --------------------------------------------------------------------------------------

    def tick_us(self) -> float:
        """The length of a tick on this machine's monotonic clock."""
        return TICK_US * self.drift

    def _after_ticks(self, delay: float) -> None:
        self.group.clock.after(int(delay), self._tick, proc=self.proc)

    def _tick(self) -> None:
        """One tick per interval; a late loop ticks once, it does not catch up in a burst."""
        self.next_tick()
        self._ticks += 1
        self.node.tick()
        if self._deadlines:
            self.expire_leases()
        self.poke()

    def next_tick(self) -> None:
        """Wait for the next tick on the monotonic clock, whatever the wall clock does."""
        self._after_ticks(self.tick_us())

    # -- input -------------------------------------------------------------------------------------

    def receive(self, message: Msg) -> None:
        """Take a message from the network."""
        if not self.up:
            return
        if self.proc.paused:
            self.proc.deferred.append((self.receive, (message,)))
            return
        if self.group.tell is not None:
            self.group.tell("", message)
        try:
            self.node.step(message)
        except StepPeerNotFound:
            return  # a reply from a node that was removed
        self.poke()

    def unreachable(self, raft_id: int) -> None:
        """The transport lost its connection."""
        self.node.report_unreachable(raft_id)
        self.node.report_snapshot(raft_id, ok=False)
        self.poke()

    def snapshot_sent(self, raft_id: int) -> None:
        """Time is up for a snapshot: look by a probe whether it arrived."""
        self.node.report_snapshot(raft_id, ok=True)
        self.poke()

    def write(self, command: Command, reply: Reply) -> None:
        """A client's command: proposed here if this is the leader, redirected otherwise."""
        if not self._takes_requests(reply, self.write, command):
            return
        try:
            self.node.propose(encode(command))
        except ProposalDropped:
            reply(None, self.node.lead)
            return
        self._waiting[command.client, command.seq] = reply
        self.poke()

    def read(self, context: bytes, reply: Reply) -> None:
        """A client's read: asked of the leader, answered from here once applied."""
        if not self._takes_requests(reply, self.read, context):
            return
        self._reads[context] = reply
        self.node.read_index(context)
        self.poke()

    def _takes_requests(self, reply: Reply, act: Callable[..., None], what: object) -> bool:
        """Whether it does now; what comes to a paused process waits in its buffers."""
        if not self.up:
            reply(None, 0)
        elif self.proc.paused:
            self.proc.deferred.append((act, (what, reply)))
        return self.up and not self.proc.paused

    def change_members(self, ops: list[ConfOp]) -> None:
        """The operator's change of membership, dropped unless this is the leader."""
        try:
            self.node.propose_conf_change(ops)
        except ProposalDropped:
            return
        self.poke()

    def transfer(self, raft_id: int) -> None:
        """Hand leadership over."""
        self.node.transfer_leader(raft_id)
        self.poke()

    # -- rounds ------------------------------------------------------------------------------------

    def poke(self) -> None:
        """Go on with rounds until one has to wait for the disk, or nothing is left to do."""
        looked_at = self.group.checker.looked_at
        try:
            looked_at(self)
            while not self._storing and not self._imaging and self.node.has_ready():
                self._begin()
                looked_at(self)
            if self._storing or self._imaging:
                for message in self.urgent():
                    self._post(message)
        except StoreFailed as failure:
            self._failed(failure)
        except BugError as bug:
            self.group.checker.store_refused(self, bug)

    def urgent(self) -> tuple[Msg, ...]:
        """Messages that need not wait for the disk that is busy."""
        return self.node.urgent()

    def _begin(self) -> None:
        ready = self.node.ready()
        hard = ready.hard
        self._wait_all = hard is not None and hard[:2] != self.store.initial_state()[0][:2]
        if ready.soft is not None:
            self.group.checker.role_changed(self, ready)
        self._held = []
        for message in ready.messages:
            if self.waits(message):
                self._held.append(message)
            else:
                self._post(message)
        if ready.must_sync or ready.entries or ready.snapshot:
            self.save(ready)
            self.group.checker.stores(self, ready)
            self._storing = ready
            fsync_us = self.fsync_us()
            self.group.clock.after(fsync_us, self._stored, proc=self.proc)
            if self.in_write is not None:
                strike, self.in_write = self.in_write, None
                strike(fsync_us)
        else:
            self._finish(ready)

    def waits(self, message: Msg) -> bool:
        """Whether a message must not leave before the round is stored."""
        return self._wait_all or message.type in PERSISTENT_REPLIES

    def save(self, ready: Ready) -> None:
        """Write what a round carries; durable after sync."""
        self.store.save(hard=ready.hard, entries=ready.entries, snapshot=ready.snapshot)

    def fsync_us(self) -> int:
        """How long the disk takes now."""
        random = self.group.random
        base = FSYNC_BASE_US + int(random() * FSYNC_SPREAD_US)
        if self.fsync_slow is None:
            return base
        low, high = self.fsync_slow
        return low + int(random() * (high - low))

    def _stored(self) -> None:
        """The disk is done, or has failed."""
        ready, self._storing = self._storing, None
        assert ready is not None
        try:
            self.sync()
            self._finish(ready)
        except StoreFailed as failure:
            self._failed(failure)
        except BugError as bug:
            self.group.checker.store_refused(self, bug)
        else:
            self.poke()

    def sync(self) -> None:
        """Make what was written durable. Raises StoreFailed, after which nothing is retried."""
        if self.disk_stuck == "full":
            self.disk.fail_next("full")
        self._write_out()
        self.store.remember()
        self.group.checker.synced(self)

    def _write_out(self) -> None:
        """Bring what was written to the disk, which may have a fault armed."""
        fault = self.disk.fault
        try:
            self.store.sync()
        except StoreFailed:
            self.group.effects[f"write_{fault}"] += 1
            raise

    def _failed(self, failure: StoreFailed) -> None:
        """A write failed: say why and stop."""
        self._end(f"stops: {failure.message}")
        self.group.stopped(self)

    def _finish(self, ready: Ready) -> None:
        """After the save: apply, answer, and release what had to wait for the disk."""
        if ready.snapshot is not None:
            self.machine.restore(ready.snapshot.data)
            self.applied = ready.snapshot.index
            self.group.effects["snapshot_installed"] += 1
            self.group.checker.restored(self, ready.snapshot.conf)
        for entry in ready.committed:
            self._apply(entry)
        self.node.advance(ready)
        for message in self._held:
            self._post(message)
        if ready.read_states or self._reads_due:
            self._answer_reads(ready.read_states)
        self._note_leadership()
        if ready.committed:
            self._make_image()

    def _post(self, message: Msg) -> None:
        self.group.checker.sends(self, message)
        self.group.network.send(self, message)
        if message.type == "Snap":
            clock = self.group.clock
            clock.after(SNAPSHOT_SENT_AFTER, self.snapshot_sent, message.to, proc=self.proc)

    def _apply(self, entry: Entry) -> None:
        self.applied = entry.index
        if entry.type != "normal":
            ops, transition = decode_conf_change(entry)
            self.node.apply_conf_change(ops, transition)
            self._members_changed = True
            self.group.checker.applied(self, entry, None, None)
            return
        if not entry.data:
            self.group.checker.applied(self, entry, None, None)
            return
        command, outcome = self.machine.apply(entry.data)
        self.group.checker.applied(self, entry, command, outcome)
        if command.kind == RENEW and outcome.took_effect:
            self._deadlines[command.key] = (command.value, self._ticks + LEASE_TICKS)
        elif command.kind == EXPIRE and outcome.took_effect:
            self._deadlines.pop(command.key, None)
        reply = self._waiting.pop((command.client, command.seq), None)
        if reply is not None:
            reply(outcome, self.id)

    def _answer_reads(self, states: tuple[tuple[int, bytes], ...]) -> None:
        self._reads_due.extend(states)
        due, self._reads_due = self._reads_due, []
        for index, context in due:
            if index > self.applied:
                self._reads_due.append((index, context))
                continue
            reply = self._reads.pop(context, None)
            if reply is not None:
                self.group.checker.read_answered(context, index)
                reply(Outcome(False, self.machine.version), self.id)

    def _note_leadership(self) -> None:
        """A new leader gives every lease its whole time again; one that was, answers nobody."""
        led = self.node.term if self.node.role == "leader" else 0
        if led == self._led:
            return
        self._led = led
        self._waiting.clear()
        end = self._ticks + LEASE_TICKS
        self._deadlines = {key: (one, end) for key, one in self.machine.leases.items() if one}

    def expire_leases(self) -> None:
        """The leader proposes the end of leases that ran out, naming the renewal that it saw."""
        if self.node.role != "leader":
            return
        for key, (renewal, deadline) in self._deadlines.items():
            if self._ticks >= deadline:
                self._deadlines[key] = (renewal, self._ticks + LEASE_TICKS)
                self.propose_end(Command(EXPIRE, 0, 0, key, renewal))

    def propose_end(self, command: Command) -> None:
        """Propose here, never forward: a deposed leader must not end a lease (etcd 15247)."""
        try:
            self.node.propose(encode(command))
        except ProposalDropped:
            pass  # tried again, or the next leader does

    def _make_image(self) -> None:
        """Keep a snapshot when the log has grown, and after a change of members."""
        grown = self.applied - self.store.snapshot().index
        options = self.group.options
        if grown < options.snapshot_every and not (self._members_changed and grown):
            return
        self._members_changed = False
        data = self.machine.snapshot()
        self.group.checker.imaged(self, data)
        self.store.make_snapshot(self.applied, self.node.conf, data)
        cut = max(self.store.first_index() - 1, self.applied - options.entries_kept)
        self.store.compact(cut)
        self._imaging = True
        self.group.effects["snapshot_made"] += 1
        self.group.clock.after(self.fsync_us(), self._imaged, proc=self.proc)

    def _imaged(self) -> None:
        self._imaging = False
        try:
            self.sync()
        except StoreFailed as failure:
            self._failed(failure)
        else:
            self.poke()
