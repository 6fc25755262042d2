"""The simulated network: directed links that block, delay, lose, repeat and reorder.

Datagram semantics for consensus and reports; byte streams (replication, clients) ask `blocked` and
`delay` themselves, because TCP holds back instead of losing.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from pgherd.model.ids import NodeId
from pgherd.sim.clock import MS, Clock, Proc

DEFERRED_MAX = 400
"""How much waits for a paused process before more of it is lost."""

Link = tuple[NodeId, NodeId]


class Network:
    """All links between all nodes."""

    def __init__(self, clock: Clock, rng: Random) -> None:
        self._clock = clock
        self._rng = rng
        self._blocks: dict[Link, int] = {}
        self._slow: dict[Link, int] = {}
        self.loss = 0.0
        self.repeat = 0.0
        self.jitter = 0

    def block(self, source: NodeId, target: NodeId) -> None:
        """Block one direction; blocks add up."""
        self._blocks[source, target] = self._blocks.get((source, target), 0) + 1

    def unblock(self, source: NodeId, target: NodeId) -> None:
        """Take one block away."""
        self._blocks[source, target] = max(0, self._blocks.get((source, target), 0) - 1)

    def slow(self, source: NodeId, target: NodeId, delay: int) -> None:
        """Add a fixed delay to one direction."""
        self._slow[source, target] = delay

    def heal(self) -> None:
        """Everything works again."""
        self._blocks.clear()
        self._slow.clear()
        self.loss = self.repeat = 0.0
        self.jitter = 0

    def blocked(self, source: NodeId, target: NodeId) -> bool:
        return bool(self._blocks) and self._blocks.get((source, target), 0) > 0

    def delay(self, source: NodeId, target: NodeId) -> int:
        """How long the next packet takes."""
        rng = self._rng
        late = int(rng.random() * self.jitter) if self.jitter else 0
        slow = self._slow.get((source, target), 0) if self._slow else 0
        return 200 + int(rng.random() * MS) + late + slow

    def send(
        self,
        source: NodeId,
        target: NodeId,
        act: Callable[..., None],
        *args: Any,
        proc: Proc | None,
    ) -> None:
        """Run act(*args) on the target's process, perhaps late, twice or never."""
        if self.blocked(source, target) or (self.loss and self._rng.random() < self.loss):
            return
        if proc is not None and proc.paused and len(proc.deferred) > DEFERRED_MAX:
            return
        self._clock.after(self.delay(source, target), act, *args, proc=proc)
        if self.repeat and self._rng.random() < self.repeat:
            self._clock.after(self.delay(source, target) * 3, act, *args, proc=proc)
