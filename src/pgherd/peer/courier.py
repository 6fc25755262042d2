"""Carries snapshots to peers: one chunk at a time, each answered before the next one leaves.

So a transfer takes little memory, the line and the loop are free between two chunks, and it goes no
faster than the other side takes it. It ends in every case with a word to the core, which would wait
for ever otherwise. Whether to try again is the core's business; the receiver then says how much of
it it has already. Leaves cutting and putting together to `chunks`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pgherd.model.errors import PeerError
from pgherd.model.ids import NodeId
from pgherd.peer import frame as frames
from pgherd.peer.chunks import Parcel, crc_marks, is_same
from pgherd.peer.frame import FrameError
from pgherd.raft.types import Msg, Snapshot
from pgherd.telemetry import logs

SETBACKS_MAX = 5
"""So many answers that ask for something again end a transfer; the core may begin another."""
IN_THREAD_BYTES = 1024 * 1024
"""From this size on what looks at every byte is kept off the loop."""

log = logs.get("peer")
Ask = Callable[[NodeId, bytes], Awaitable[bytes]]


class Courier:
    """At most one snapshot under way to each peer. done(node, whether it was taken whole)."""

    def __init__(self, ask: Ask, done: Callable[[NodeId, bool], None]) -> None:
        self._ask, self._done = ask, done
        self._under_way: dict[NodeId, tuple[Msg, asyncio.Task[None]]] = {}
        self._problems: dict[NodeId, str] = {}

    def send(self, to: NodeId, message: Msg) -> None:
        """Begin a transfer. One of the same snapshot goes on instead, an older one ends."""
        running = self._under_way.get(to)
        if running is not None:
            if is_same(running[0], message):
                return
            running[1].cancel()
        task = asyncio.get_running_loop().create_task(self._carry(to, message))
        self._under_way[to] = (message, task)

    def forget(self, to: NodeId) -> None:
        """The peer is gone or elsewhere: end what is under way to it; `done` comes later."""
        running = self._under_way.get(to)
        if running is not None:
            running[1].cancel()

    async def stop(self) -> None:
        """End all transfers."""
        tasks = [task for _, task in self._under_way.values()]
        self._under_way.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, to: NodeId, message: Msg) -> None:
        taken = False
        try:
            await self._deliver(to, message)
            taken = True
            self._problems.pop(to, None)
        except (PeerError, FrameError) as error:
            self._complain(to, str(error))
        finally:
            mine = asyncio.current_task()
            running = self._under_way.get(to)
            if running is not None and running[1] is mine:
                del self._under_way[to]
                self._done(to, taken)

    async def _deliver(self, to: NodeId, message: Msg) -> None:
        """Send until the other side has all of it. Raises PeerError, FrameError."""
        data = (message.snapshot or Snapshot()).data
        is_long = len(data) >= IN_THREAD_BYTES
        marks = await asyncio.to_thread(crc_marks, data) if is_long else crc_marks(data)
        parcel = Parcel(message, marks)
        at = before = setbacks = 0
        while setbacks < SETBACKS_MAX:
            answer = await self._ask(to, frames.encode(parcel.chunk(at)))
            at, before = frames.decode_taken(answer).next, at
            if at == parcel.size:
                return
            setbacks += at <= before
        raise PeerError(f"it asks for byte {at} of {parcel.size} again and again")

    def _complain(self, to: NodeId, problem: str) -> None:
        """Log a failure, the same one once: the core tries again soon."""
        if self._problems.get(to) != problem:
            self._problems[to] = problem
            log.warning("peer.snapshot_failed", peer=to, problem=problem)
