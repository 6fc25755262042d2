"""The writer thread of a simulated node: one durable write after the other, each after a delay."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from pgherd.sim.clock import MS, Clock, Proc
from pgherd.store.base import StoreFailed
from pgherd.store.memory import MemoryStore


class Writer:
    """Writes in order. A crash before the end of the delay loses the write.

    failed: what happens to the process when its store takes nothing more.
    """

    def __init__(
        self,
        clock: Clock,
        rng: Random,
        *,
        store: MemoryStore,
        proc: Proc,
        failed: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._store = store
        self._proc = proc
        self._queue: deque[tuple[dict[str, Any], Callable[[], None]]] = deque()
        self._failed = failed
        self.broken = False
        self.busy_until = 0
        self._busy = False
        self.slow = 0

    def save(self, what: dict[str, Any], done: Callable[[], None]) -> None:
        """Make it durable, then call done()."""
        self._queue.append((what, done))
        self._next()

    def _next(self) -> None:
        if self._busy or self.broken or not self._queue:
            return
        self._busy = True
        what, done = self._queue.popleft()
        self._store.save(**what)
        delay = 300 + int(self._rng.random() * 2 * MS) + self.slow
        self.busy_until = self._clock.now + delay
        self._clock.after(delay, self._durable, done, proc=self._proc)

    def _durable(self, done: Callable[[], None]) -> None:
        if not self.sync():
            return
        self._busy = False
        done()
        self._next()

    @property
    def waiting(self) -> int:
        """How many writes have not begun."""
        return len(self._queue)

    def sync(self) -> bool:
        """Make durable what the store holds; False: the disk refuses, and the process ends."""
        try:
            self._store.sync()
        except StoreFailed:
            self.broken = True
            self._clock.after(0, self._failed, proc=self._proc)
        return not self.broken
