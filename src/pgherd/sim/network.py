"""The simulated network: directed links that block, delay, lose, repeat and reorder.

Datagram semantics for consensus and reports; byte streams (replication, clients) ask `blocked` and
`delay` themselves, because TCP holds back instead of losing.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Literal

from pgherd.model.ids import NodeId
from pgherd.sim.clock import MS, Clock, Proc

DEFERRED_MAX = 400
"""How much waits for a paused process before more of it is lost."""

Link = tuple[NodeId, NodeId]
Plane = Literal["", "peer", "sql"]
"""What of a link: all of it, what agents tell each other, or connections to a server."""


class Network:
    """All links between all nodes."""

    def __init__(self, clock: Clock, rng: Random) -> None:
        self._clock = clock
        self._rng = rng
        self._blocks: dict[Link, int] = {}
        self._parts: dict[tuple[Plane, Link], int] = {}
        self._slow: dict[Link, int] = {}
        self._lag: dict[Link, int] = {}
        self.loss = 0.0
        self.repeat = 0.0
        self.jitter = 0

    def block(self, source: NodeId, target: NodeId, plane: Plane = "") -> None:
        """Block one direction, or one plane of it; blocks add up."""
        self._count(source, target, plane, 1)

    def unblock(self, source: NodeId, target: NodeId, plane: Plane = "") -> None:
        """Take one block away."""
        self._count(source, target, plane, -1)

    def _count(self, source: NodeId, target: NodeId, plane: Plane, by: int) -> None:
        link = source, target
        if plane:
            self._parts[plane, link] = max(0, self._parts.get((plane, link), 0) + by)
        else:
            self._blocks[link] = max(0, self._blocks.get(link, 0) + by)

    def slow(self, source: NodeId, target: NodeId, delay: int) -> None:
        """Add a fixed delay to one direction."""
        self._slow[source, target] = delay

    def lag(self, source: NodeId, target: NodeId, delay: int) -> None:
        """Add a fixed delay to the WAL of one direction."""
        self._lag[source, target] = delay

    def heal(self) -> None:
        """Everything works again."""
        self._blocks.clear()
        self._parts.clear()
        self._slow.clear()
        self._lag.clear()
        self.loss = self.repeat = 0.0
        self.jitter = 0

    def blocked(self, source: NodeId, target: NodeId, plane: Plane = "") -> bool:
        """Whether nothing gets through; plane: or nothing of this."""
        if self._blocks and self._blocks.get((source, target), 0) > 0:
            return True
        return bool(plane and self._parts) and self._parts.get((plane, (source, target)), 0) > 0

    def apart(self, one: NodeId, other: NodeId, plane: Plane = "") -> bool:
        """Whether no conversation is possible."""
        return self.blocked(one, other, plane) or self.blocked(other, one, plane)

    def wal_delay(self, source: NodeId, target: NodeId) -> int:
        """How long the next piece of WAL takes."""
        lag = self._lag.get((source, target), 0) if self._lag else 0
        return self.delay(source, target) + lag

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
        if self.blocked(source, target, "peer") or (self.loss and self._rng.random() < self.loss):
            return
        if proc is not None and proc.paused and len(proc.deferred) > DEFERRED_MAX:
            return
        self._clock.after(self.delay(source, target), act, *args, proc=proc)
        if self.repeat and self._rng.random() < self.repeat:
            self._clock.after(self.delay(source, target) * 3, act, *args, proc=proc)
