"""The links between servers: directed, and each may block, lose, delay, repeat and reorder.

Owns what happens to a message on its way. A message that is late arrives even at a server that was
restarted meanwhile. Blocks are counted per directed link: overlapping faults end one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from pgherd.raft.types import Msg
from pgherd.sim.clock import MS, Clock

if TYPE_CHECKING:
    from pgherd.sim.raft.server import Server

Link = tuple[int, int]
BASE_US = 200
SPREAD_US = 1200
UNREACHABLE_AFTER = 200 * MS
LATE_SHARE = 0.02


class Network:
    """All links, by slot (a place that a server of some Raft id occupies)."""

    def __init__(self, clock: Clock, rng: Random) -> None:
        self._clock = clock
        self._random = rng.random
        self.servers: dict[int, Server] = {}
        self._blocks: dict[Link, int] = {}
        self.loss = 0.0
        self.repeat = 0.0
        self.slow = 0
        self.jitter = 0
        self.late = 0
        self.held: set[str] = set()
        self.dropped: set[str] = set()
        self.effects: Counter[str] = Counter()
        self._arrivals: dict[Link, int] = {}
        self.tell: Callable[[str, Msg], None] | None = None

    def block(self, source: int, target: int) -> None:
        """Block one direction."""
        self._blocks[source, target] = self._blocks.get((source, target), 0) + 1

    def unblock(self, source: int, target: int) -> None:
        """Take one block away."""
        left = self._blocks.get((source, target), 0) - 1
        if left > 0:
            self._blocks[source, target] = left
        else:
            self._blocks.pop((source, target), None)

    def heal(self) -> None:
        """Everything works again; what is late still arrives."""
        self._blocks.clear()
        self.loss = self.repeat = 0.0
        self.slow = self.jitter = self.late = 0
        self._arrivals.clear()
        self.held.clear()
        self.dropped.clear()

    def blocked(self, source: int, target: int) -> bool:
        """Whether a direction is blocked now."""
        return (source, target) in self._blocks

    def send(self, source: Server, message: Msg) -> None:
        """Put a message on its way, perhaps late, twice or never."""
        target = self.servers.get(message.to)
        if target is None:
            return
        if self._blocks and (source.slot, target.slot) in self._blocks:
            self._told("blocked", message)
            self._clock.after(UNREACHABLE_AFTER, source.unreachable, message.to, proc=source.proc)
            return
        random = self._random
        if (self.loss and random() < self.loss) or message.type in self.dropped:
            self._told("lost", message)
            return
        self._clock.after(self._delay(message), target.receive, message)
        if self.repeat and random() < self.repeat:
            self.effects["message_repeated"] += 1
            self._clock.after(self._delay(message) * 3, target.receive, message)

    def _delay(self, message: Msg) -> int:
        random = self._random
        delay = BASE_US + int(random() * SPREAD_US)
        if self.slow:
            self.effects["message_slow"] += 1
            delay += self.slow
        if self.jitter:
            delay += int(random() * self.jitter)
            self._note_order(message, self._clock.now + delay)
        if self.late and (message.type in self.held or random() < LATE_SHARE):
            self.effects["message_late"] += 1
            delay += int(random() * self.late)
        return delay

    def _note_order(self, message: Msg, arrival: int) -> None:
        """Count a message that arrives before one which was sent earlier on the same link."""
        link = (message.frm, message.to)
        last = self._arrivals.get(link, 0)
        if arrival < last:
            self.effects["message_overtaking"] += 1
        else:
            self._arrivals[link] = arrival

    def _told(self, what: str, message: Msg) -> None:
        self.effects[f"message_{what}"] += 1
        if self.tell is not None:
            self.tell(what, message)
