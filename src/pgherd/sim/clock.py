"""Simulated time: a heap of events, processes that can be killed or paused, and small tasks.

Time is whole microseconds. Events of the same instant run in the order in which they were made, so
that a seed gives one run. A task is a generator that yields how long it sleeps.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from heapq import heappop, heappush
from typing import Any

from pgherd.model.ids import Instant

MS = 1000
SECOND = 1_000_000

Task = Generator[int, None, None]


class Failed(Exception):
    """An act could not be done; the agent looks again and decides anew."""


class Proc:
    """A process, or a group of them, that lives, may be paused, and dies for good."""

    __slots__ = ("alive", "deferred", "name", "paused")

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.deferred: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def kill(self) -> None:
        """End it: nothing that it waited for happens any more."""
        self.alive = False
        self.deferred.clear()


class Endless(Exception):
    """So much happens at once that time does not go on: messages that go round for ever."""


class Boottime:
    """A host's own clock: a little too fast or too slow, and begun anew whenever the host is."""

    def __init__(self, clock: Clock, *, parts_per_million: int) -> None:
        self._clock = clock
        self._rate = 1_000_000 + parts_per_million
        self._began = clock.now
        self.boots = 0

    def restart(self) -> None:
        """The host starts: readings of before mean nothing."""
        self._began = self._clock.now
        self.boots += 1

    @property
    def ms(self) -> Instant:
        """What the clock shows."""
        return Instant((self._clock.now - self._began) * self._rate // 1_000_000 // MS)

    def true(self, shown: Instant) -> int:
        """The true time, in microseconds, at which the clock shows this."""
        return self._began + shown * MS * 1_000_000 // self._rate


class Clock:
    """The event loop of the simulation."""

    def __init__(self) -> None:
        self.now = 0
        self.events = 0
        self.events_per_second_max = sys.maxsize
        self._sequence = 0
        self._heap: list[tuple[int, int, Proc | None, Callable[..., None], tuple[Any, ...]]] = []

    @property
    def ms(self) -> int:
        return self.now // MS

    @property
    def waiting(self) -> int:
        """How many events are to come."""
        return len(self._heap)

    def after(
        self, delay: int, act: Callable[..., None], *args: Any, proc: Proc | None = None
    ) -> None:
        """Run act(*args) after a delay, unless its process has died by then."""
        self._sequence += 1
        heappush(self._heap, (self.now + delay, self._sequence, proc, act, args))

    def run_until(self, end: int) -> None:
        """Run everything that is due up to and with an instant. Raises Endless."""
        heap = self._heap
        most = self.events + self.events_per_second_max * (1 + (end - self.now) // SECOND)
        while heap and heap[0][0] <= end:
            at, _, proc, act, args = heappop(heap)
            self.now = at
            self.events += 1
            if self.events > most:
                raise Endless(f"more than {self.events_per_second_max} events in a second")
            if proc is not None:
                if not proc.alive:
                    continue
                if proc.paused:
                    proc.deferred.append((act, args))
                    continue
            act(*args)
        self.now = max(self.now, end)

    def resume(self, proc: Proc) -> None:
        """Let a paused process go on with what it missed, in order."""
        proc.paused = False
        missed, proc.deferred = proc.deferred, []
        for act, args in missed:
            self.after(0, act, *args, proc=proc)

    def spawn(
        self, proc: Proc | None, task: Task, done: Callable[[Failed | None], None] | None = None
    ) -> None:
        """Run a task on a process; done(None) or done(why it failed)."""
        try:
            delay = next(task)
        except StopIteration:
            if done is not None:
                done(None)
            return
        except Failed as why:
            if done is not None:
                done(why)
            return
        self.after(delay, self.spawn, proc, task, done, proc=proc)
