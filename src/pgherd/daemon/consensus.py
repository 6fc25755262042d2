"""Drives one replica on the event loop: ticks, rounds, proposals and quorum reads.

The disk is written on one dedicated thread; messages that may leave before the fsync do. Nothing
here blocks the loop. Owns no decision: when to propose is the agent's business.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from pgherd.ledger.commands import AnyCommand, Outcome, Proposal
from pgherd.model.ids import NodeId
from pgherd.model.promises import Promises
from pgherd.raft.types import Msg, ProposalDropped
from pgherd.store.base import Store, StoreFailed
from pgherd.store.replica import Applied, Replica, Round
from pgherd.telemetry.boottime import now_ms, unix_ms

PROPOSALS_MAX = 256
READS_MAX = 256
SNAPSHOT_S = 2.0


class NotLeader(Exception):
    """This node is not the Raft leader; `leader` says who is, if known."""

    def __init__(self, leader: NodeId | None) -> None:
        super().__init__(f"the Raft leader is {leader or 'unknown'}")
        self.leader = leader


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
        failed: Callable[[StoreFailed], None],
        fsynced: Callable[[float], None] = lambda seconds: None,
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
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._work = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: dict[tuple[str, int], asyncio.Future[Outcome]] = {}
        self._reads: dict[bytes, asyncio.Future[int]] = {}
        self._applied_waiters: list[tuple[int, asyncio.Future[None]]] = []
        self.leader_since = now_ms()
        self._led = False
        self.stopped = False

    def start(self) -> None:
        """Begin to take part."""
        self._tasks = [
            asyncio.create_task(self._ticks(), name="raft-ticks"),
            asyncio.create_task(self._rounds(), name="raft-rounds"),
        ]

    async def stop(self) -> None:
        """Stop taking part; the store stays open for promises until `close`."""
        self.stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self._writer.shutdown)
        self.store.close()

    # --- input -----------------------------------------------------------------------------------

    def receive(self, message: Msg) -> None:
        """Take a message from a peer."""
        if not self.stopped:
            self.replica.step(message)
            self._work.set()

    def unreachable(self, raft_id: int) -> None:
        """A peer's connection is gone."""
        if not self.stopped:
            self.replica.node.report_unreachable(raft_id)
            self.replica.node.report_snapshot(raft_id, ok=False)
            self._work.set()

    def transfer(self, raft_id: int) -> None:
        """Hand Raft leadership to a voter that has caught up."""
        self.replica.node.transfer_leader(raft_id)
        self._work.set()

    def change_membership(self, verb: str, raft_id: int) -> None:
        """Propose a single-server change; dropped silently when not leader any more."""
        with contextlib.suppress(ProposalDropped):
            self.replica.change_membership(verb, raft_id)  # type: ignore[arg-type] # RaftId is int
        self._work.set()

    async def submit(self, command: AnyCommand) -> Outcome:
        """Put a command through consensus from here. Raises NotLeader; may wait for ever."""
        self._seq += 1
        return await self.propose(Proposal(self._client, self._seq, unix_ms(), command))

    async def propose(self, proposal: Proposal) -> Outcome:
        """Put a proposal through consensus from here; the caller bounds the wait."""
        if len(self._waiting) >= PROPOSALS_MAX:
            raise NotLeader(self.replica.leader_node())
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        key = (proposal.client, proposal.seq)
        try:
            self.replica.propose(proposal)
        except ProposalDropped as dropped:
            raise NotLeader(self.replica.leader_node()) from dropped
        self._waiting[key] = future
        self._work.set()
        try:
            return await future
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
        self._work.set()
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
        await self._on_writer(partial(self.store.save, promises=promises))
        self.store.remember()

    # --- output ----------------------------------------------------------------------------------

    async def _ticks(self) -> None:
        """One tick per interval; a late loop ticks once, it does not catch up in a burst."""
        while True:
            await asyncio.sleep(self._tick_s)
            self.replica.node.tick()
            self._work.set()

    async def _rounds(self) -> None:
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                while await self._round():
                    pass
        except StoreFailed as failure:
            self.stopped = True
            self._failed(failure)

    async def _round(self) -> bool:
        ready = self.replica.begin()
        if ready is None:
            return False
        for message in self.replica.early(ready):
            self._post(message)
        if self.replica.needs_disk(ready):
            await self._on_writer(partial(self.store.save, **self.replica.durable(ready)))
        done = self.replica.finish(ready)
        for message in done.messages:
            self._post(message)
        self._note_leadership()
        self._answer(done)
        await self._compact()
        return True

    def _post(self, message: Msg) -> None:
        """Send; of a snapshot the core must hear what became of it, or it waits for ever."""
        self._send(message)
        if message.type == "Snap":
            loop = asyncio.get_running_loop()
            loop.call_later(SNAPSHOT_S, self._snapshot_sent, message.to)

    def _snapshot_sent(self, raft_id: int) -> None:
        """Time is up: look by a probe whether it arrived; without effect if it answered."""
        if not self.stopped:
            self.replica.node.report_snapshot(raft_id, ok=True)
            self._work.set()

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
        await self._on_writer(partial(self.store.make_snapshot, index, conf, data))
        self.store.remember()
        await self._on_writer(partial(self.store.compact, self.replica.compact_to(index)))
        self.store.remember()

    async def _on_writer(self, work: Callable[[], Any]) -> None:
        began = asyncio.get_running_loop().time()
        await asyncio.get_running_loop().run_in_executor(self._writer, work)
        self._fsynced(asyncio.get_running_loop().time() - began)

    def is_ready_to_decide(self) -> bool:
        """Whether this node leads and has applied everything up to its own Raft term."""
        node = self.replica.node
        if not self.replica.leads:
            return False
        return self.store.term(node.applied) == node.term if node.applied else False
