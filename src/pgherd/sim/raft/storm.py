"""A storm: faults strike one group for a while, each ends by itself or with the storm.

Owns when faults strike, how they end, and what the kinds in faults.py are told with: whom to hit,
which links to cut. Each fault has a chance of its own, so that a run without one of them still has
the same others (shrunk in run.py). Leaves what a kind does to faults.py, and how many to run.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from random import Random
from typing import TYPE_CHECKING

from pgherd.sim.clock import SECOND

if TYPE_CHECKING:
    from pgherd.sim.raft.group import Group
    from pgherd.sim.raft.server import Server

NUMBERS = 1009
"""More than any storm has faults."""
Strike = Callable[["Storm"], bool]
"""One fault; False when it does not apply now."""


class Storm:
    """What strikes one group."""

    def __init__(
        self, group: Group, kinds: Mapping[str, Strike], skip: Collection[int] = ()
    ) -> None:
        self.group = group
        self._skip = skip
        self._chance = Random(group.seed)
        self._kinds = list(kinds.items())
        self._undo: list[Callable[[], None]] = []
        self.over = False

    def schedule(self, *, first: int, last: int, count: int) -> None:
        """Strike `count` times within a window from now on, but for the numbers to skip."""
        for number in range(count):
            self.group.clock.after(self.draw(first, last), self._strike, number)

    def _strike(self, number: int) -> None:
        """One fault; another kind if the one drawn does not apply now."""
        if self.over or number in self._skip:
            return
        self._chance = Random(self.group.seed * NUMBERS + number)
        for _ in range(len(self._kinds)):
            name, strike = self._kinds[self.draw(0, len(self._kinds))]
            if strike(self):
                self.group.hit(name)
                return

    def end(self) -> None:
        """All faults stop: links heal, disks work, processes run, everyone is started."""
        self.over = True
        for undo in self._undo:
            undo()
        self._undo.clear()
        group = self.group
        group.network.heal()
        group.operator.crash_at_change = False
        for server in group.slots.values():
            server.drift, server.fsync_slow, server.disk_stuck = 1.0, None, ""
            server.in_write = None
            server.disk.fault = ""
            server.resume()
            group.restart(server)

    def random(self) -> float:
        """Chance, for what a fault does."""
        return self._chance.random()

    def draw(self, low: int, high: int) -> int:
        """An integer in [low, high)."""
        return low + int(self.random() * (high - low))

    # -- for the kinds -----------------------------------------------------------------------------

    def lasting(self, undo: Callable[[], None], seconds: tuple[float, float]) -> None:
        """End a fault after a while, or with the storm."""
        self._undo.append(undo)
        low, high = seconds
        delay = int((low + self.random() * (high - low)) * SECOND)
        self.group.clock.after(delay, self._end_one, undo)

    def _end_one(self, undo: Callable[[], None]) -> None:
        if undo in self._undo:
            self._undo.remove(undo)
            undo()

    def victim(self) -> Server:
        """The leader as often as anyone else together."""
        leader = self.group.leader()
        if leader is not None and self.random() < 0.5:
            return leader
        return self.anyone()

    def anyone(self) -> Server:
        """One of those that should vote."""
        members = self.group.members()
        return members[self.draw(0, len(members))]

    def cut(self, links: list[tuple[int, int]], seconds: tuple[float, float]) -> bool:
        """Block directed links for a while."""
        network = self.group.network
        for link in links:
            network.block(*link)

        def undo() -> None:
            for link in links:
                network.unblock(*link)

        self.lasting(undo, seconds)
        return bool(links)

    def halves(self) -> tuple[list[int], list[int]]:
        """All slots in two parts, both with someone in them."""
        slots = sorted(self.group.slots)
        one = [slot for slot in slots if self.random() < 0.5]
        one = one or slots[:1]
        other = [slot for slot in slots if slot not in one]
        return (one, other) if other else (one[1:], one[:1])

    def others(self, slot: int) -> list[int]:
        """All slots but one."""
        return [one for one in sorted(self.group.slots) if one != slot]

    def restart_soon(self, server: Server, longest: float) -> None:
        """Start it again within so many seconds."""
        delay = int((0.1 + self.random() * longest) * SECOND)
        self.group.restart_after(server, delay)


def both(ones: list[int], others: list[int]) -> list[tuple[int, int]]:
    """The links between two sets, in both directions."""
    return [(a, b) for a in ones for b in others] + [(b, a) for a in ones for b in others]
