"""Drives one replica on the event loop: ticks, rounds, proposals and quorum reads.

The disk is written on one dedicated thread; messages that may leave before the fsync do, and those
that come up while it lasts do not wait for it either: a slow disk delays acknowledgements, never
heartbeats. A disk that takes far too long makes the node silent, so that the others go on without
it. Nothing here blocks the loop. Owns no decision: when to propose is the agent's business.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from pgherd.ledger.commands import AnyCommand, Outcome, Proposal
from pgherd.model.errors import BugError, OperatorError, PgherdError
from pgherd.model.ids import NodeId
from pgherd.model.promises import Promises
from pgherd.raft.types import Hard, Msg, ProposalDropped
from pgherd.store.base import Store, StoreFailed
from pgherd.store.replica import Applied, Replica, Round
from pgherd.telemetry import logs
from pgherd.telemetry.boottime import now_ms, unix_ms, until_next

log = logs.get("daemon")

PROPOSALS_MAX = 256
READS_MAX = 256
DISK_S_MAX = 5.0
"""A disk that is busy for longer counts as hung: the node says nothing more until it is back."""
COMMIT_SAVE_S = 0.1
"""How long a moved commit index alone waits for company on its way to the disk."""

EARLY_TICKS = 0.5
"""A heartbeat may bring a tick forward by so much of one; the timer then waits as much longer."""


class NotLeader(Exception):
    """This node is not the Raft leader; `leader` says who is, if known."""

    def __init__(self, leader: NodeId | None, why: str = "") -> None:
        super().__init__(why or f"the Raft leader is {leader or 'unknown'}")
        self.leader = leader


class TooManyWait(NotLeader):
    """The leader takes no more for the moment; asking again later is right, as after NotLeader."""


class Consensus:
    """One node's part in consensus, running."""

    def __init__(
        self,
        replica: Replica,
        *,
        tick_ms: int,
        client: str,
        send: Callable[[Msg], None],
        changed: Callable[[Sequence[Applied]], None],
        failed: Callable[[PgherdError], None],
        fsynced: Callable[[float], None] = lambda seconds: None,
        ticked: Callable[[], None] = lambda: None,
        appended: Callable[[float], None] = lambda seconds: None,
        compacted: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.replica = replica
        self.store: Store = replica.store
        self._tick_s = tick_ms / 1000
        self._client = client
        self._seq = 0
        self._send = send
        self._changed = changed
        self._failed = failed
        self._fsynced = fsynced
        self._ticked = ticked
        self._appended, self._compacted = appended, compacted
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ticked_at = 0.0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._work = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: dict[tuple[str, int], asyncio.Future[Outcome]] = {}
        self._reads: dict[bytes, asyncio.Future[int]] = {}
        self._applied_waiters: list[tuple[int, asyncio.Future[None]]] = []
        self.leader_since = now_ms()
        self._led = False
        self._late_hard: Hard | None = None
        self._late_at = 0.0
        self._disk_busy: list[float] = []
        self.stopped = False

    def start(self) -> None:
        """Begin to take part."""
        self._tasks = [asyncio.create_task(self._rounds(), name="raft-rounds")]
        self._loop = asyncio.get_running_loop()
        self._tick_after(self._loop, self._tick_s)

    async def stop(self) -> None:
        """Stop taking part; the store stays open for promises until `close`."""
        self.stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self._writer.shutdown)
        self.store.close()

    # --- input -----------------------------------------------------------------------------------

    def receive(self, message: Msg) -> None:
        """Take a message from a peer."""
        if self.stopped:
            return
        self.replica.step(message)
        self._stirred()
        if message.type == "Heartbeat" and message.frm == self.replica.node.lead:
            self._tick_with_leader()

    def unreachable(self, raft_id: int) -> None:
        """A peer's connection is gone."""
        if not self.stopped:
            self.replica.node.report_unreachable(raft_id)
            self.replica.node.report_snapshot(raft_id, ok=False)
            self._stirred()

    def snapshot_sent(self, raft_id: int, *, taken: bool) -> None:
        """A snapshot was delivered or not: look by a probe how far the peer is now."""
        if not self.stopped:
            self.replica.node.report_snapshot(raft_id, ok=taken)
            self._stirred()

    def transfer(self, raft_id: int) -> None:
        """Hand Raft leadership to a voter that has caught up."""
        self.replica.node.transfer_leader(raft_id)
        self._work.set()

    def hand_to(self, node: NodeId) -> None:
        """Hand Raft leadership to a member by its name. Raises NotLeader."""
        member = self.replica.facts.members.get(node)
        if not self.replica.leads or member is None:
            raise NotLeader(self.replica.leader_node())
        self.transfer(member.raft_id)

    def retire(self) -> None:
        """Take no part any more: this node was removed. Promises can still be read and saved."""
        self.stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    def change_membership(self, verb: str, raft_id: int) -> None:
        """Propose a single-server change; dropped silently when not leader any more."""
        with contextlib.suppress(ProposalDropped):
            self.replica.change_membership(verb, raft_id)  # type: ignore[arg-type] # RaftId is int
        self._work.set()

    async def submit(self, command: AnyCommand, *, raft_term: int | None = None) -> Outcome:
        """Put a command through consensus from here. Raises NotLeader; may wait for ever.

        raft_term: the leadership that decided it; in another one it is dropped, never forwarded:
        who was deposed must not end a lease through its successor (etcd 12528, 15247).
        """
        if raft_term is not None and raft_term != self.replica.ready_term:
            raise NotLeader(self.replica.leader_node(), f"decided in Raft term {raft_term}")
        self._seq += 1
        seen = self.replica.node.applied
        return await self.propose(Proposal(self._client, self._seq, unix_ms(), command, seen))

    async def propose(self, proposal: Proposal) -> Outcome:
        """Put a proposal through consensus from here; the caller bounds the wait.

        Raises NotLeader, TooManyWait, ProposalTooLarge, or CommandTooNew.
        """
        if len(self._waiting) >= PROPOSALS_MAX:
            leader, waiting = self.replica.leader_node(), len(self._waiting)
            raise TooManyWait(leader, f"{waiting} proposals wait already")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        key, began_s = (proposal.client, proposal.seq), loop.time()
        try:
            self.replica.propose(proposal)
        except ProposalDropped as dropped:
            raise NotLeader(self.replica.leader_node()) from dropped
        self._waiting[key] = future
        self._stirred()
        try:
            outcome = await future
            self._appended(loop.time() - began_s)
            return outcome
        finally:
            self._waiting.pop(key, None)

    async def read_index(self) -> None:
        """Return once the applied facts hold all that was committed before; leader only."""
        if not self.replica.leads or len(self._reads) >= READS_MAX:
            raise NotLeader(self.replica.leader_node())
        self._seq += 1
        context = f"{self._client}:{self._seq}".encode()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._reads[context] = future
        self.replica.node.read_index(context)
        self._stirred()
        try:
            await self.applied(await future)
        finally:
            self._reads.pop(context, None)

    async def applied(self, index: int) -> None:
        """Return once this node has applied an index."""
        if self.replica.node.applied >= index:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._applied_waiters.append((index, future))
        await future

    async def save_promises(self, promises: Promises) -> None:
        """Make promises durable. Raises StoreFailed."""
        with self._noticed("promises", again=True):
            await self._on_writer(partial(self.store.save, promises=promises))
        self.store.remember()

    # --- output ----------------------------------------------------------------------------------

    def _tick_after(self, loop: asyncio.AbstractEventLoop, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(delay_s, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """One tick per interval; a late loop ticks once, it does not catch up in a burst."""
        if self.stopped:
            return
        self._ticked_at = loop.time()
        self._tick_after(loop, until_next(self._tick_s, loop=loop))
        with self._noticed("ticks"):
            self.replica.node.tick()
            self._stirred()
            self._ticked()

    def _tick_with_leader(self) -> None:
        """A follower ticks when its leader's heartbeat wakes it anyway, and not once more."""
        loop, early_s = self._loop, EARLY_TICKS * self._tick_s
        if loop is not None and loop.time() - self._ticked_at >= early_s:
            self._tick(loop)
            self._tick_after(loop, self._tick_s + early_s)

    def _stirred(self) -> None:
        """After any input: have a round soon; what need not wait for a busy disk leaves now."""
        if self._disk_busy or self._late_hard is not None or self.replica.node.has_ready():
            self._work.set()
        if not self._disk_busy:
            return
        is_hung = asyncio.get_running_loop().time() - self._disk_busy[0] > DISK_S_MAX
        for message in self.replica.node.urgent():
            if not is_hung:
                self._send(message)

    async def _rounds(self) -> None:
        with self._noticed("rounds"):
            while True:
                await self._work.wait()
                self._work.clear()
                while await self._round():
                    pass
                await self._save_late()

    @contextlib.contextmanager
    def _noticed(self, what: str, *, again: bool = False) -> Iterator[None]:
        """Whatever ends one of our tasks ends our part in consensus, and is told."""
        try:
            yield
        except (StoreFailed, OperatorError) as failure:
            self.stopped = True
            self._failed(failure)
            if again:
                raise
        except Exception as error:
            self.stopped = True
            log.error("consensus.broken", task=what, exc_info=error)
            self._failed(BugError(f"consensus {what}: {error!r}"))
            if again:
                raise

    async def _round(self) -> bool:
        ready = self.replica.begin()
        if ready is None:
            return False
        for message in self.replica.early(ready):
            self._send(message)
        if self.replica.needs_disk(ready):
            durable = self.replica.durable(ready)
            durable["hard"] = durable["hard"] or self._late_hard
            self._late_hard = None
            await self._on_writer(partial(self.store.save, **durable))
        elif ready.hard is not None:
            self._save_later(ready.hard)
        done = self.replica.finish(ready)
        for message in done.messages:
            self._send(message)
        self._note_leadership()
        self._answer(done)
        await self._compact()
        return True

    def _save_later(self, hard: Hard) -> None:
        """Keep a commit index before long, so that a restart knows most of what was applied."""
        if self._late_hard is None:
            self._late_at = asyncio.get_running_loop().time() + COMMIT_SAVE_S
        self._late_hard = hard

    async def _save_late(self) -> None:
        if self._late_hard is None or asyncio.get_running_loop().time() < self._late_at:
            return
        hard, self._late_hard = self._late_hard, None
        await self._on_writer(partial(self.store.save, hard=hard))
        self.store.remember()

    def _note_leadership(self) -> None:
        leads = self.replica.leads
        if leads and not self._led:
            self.leader_since = now_ms()
        self._led = leads
        if not leads:
            leader = self.replica.leader_node()
            futures: list[asyncio.Future[Any]] = [*self._waiting.values(), *self._reads.values()]
            for future in futures:
                if not future.done():
                    future.set_exception(NotLeader(leader))

    def _answer(self, done: Round) -> None:
        for each in done.applied:
            future = self._waiting.get((each.proposal.client, each.proposal.seq))
            if future is not None and not future.done():
                future.set_result(each.outcome)
        for index, context in done.reads:
            read = self._reads.get(context)
            if read is not None and not read.done():
                read.set_result(index)
        applied = self.replica.node.applied
        still = []
        for index, waiter in self._applied_waiters:
            if waiter.done():
                continue
            if index <= applied:
                waiter.set_result(None)
            else:
                still.append((index, waiter))
        self._applied_waiters = still
        if done.applied or done.restored:
            self._changed(done.applied)

    async def _compact(self) -> None:
        image = self.replica.image_due()
        if image is None:
            return
        index, conf, data = image
        began_s = asyncio.get_running_loop().time()
        await self._on_writer(partial(self.store.make_snapshot, index, conf, data))
        self.store.remember()
        await self._on_writer(partial(self.store.compact, self.replica.compact_to(index)))
        self.store.remember()
        self._compacted(asyncio.get_running_loop().time() - began_s)

    async def _on_writer(self, work: Callable[[], Any]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._disk_busy.append(began)
        try:
            await loop.run_in_executor(self._writer, work)
        finally:
            self._disk_busy.remove(began)
        self._fsynced(loop.time() - began)

    def is_ready_to_decide(self) -> bool:
        """Whether this node leads and has applied everything up to its own Raft term."""
        return self.replica.ready_term != 0
