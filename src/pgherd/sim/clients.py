"""Writers: each commits numbered rows, one at a time, at whatever primary it can find.

Owns the record of attempts; what the servers acknowledged is recorded by the checks, at the moment
at which the reply leaves the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.model.ids import NodeId
from pgherd.sim.clock import MS

if TYPE_CHECKING:
    from pgherd.sim.world import World

PATIENCE = 2500 * MS


class Client:
    """One writer. home: the node beside which it sits, None for one outside of all partitions."""

    def __init__(self, world: World, *, home: NodeId | None, pause_ms: int) -> None:
        self.world, self.clock = world, world.clock
        self.home = home
        self.pause_ms = pause_ms
        self.target = home or world.names[0]
        self.acknowledged = 0
        self._attempt = 0
        self._at = 0
        self.begin()

    def begin(self) -> None:
        """Write, until the world is quiet."""
        self.clock.after(self.world.rng.randrange(500) * MS, self._send)

    def _send(self) -> None:
        if self.world.quiet:
            return
        self._attempt = data = self.world.next_row()
        self._at = self.clock.now
        server = self.world.server(self.target)
        self.clock.after(PATIENCE, self._late, data)
        if not self._reaches() or not self.world.nodes[self.target].host_up:
            return
        delay = self._delay()
        if server.proc is None:
            self.clock.after(2 * delay, self._answer, data, False)
            return
        self.clock.after(
            delay, server.insert, data, lambda ok: self._reply(data, ok), proc=server.proc
        )

    def _delay(self) -> int:
        return 200 + self.world.rng.randrange(MS)

    def _reaches(self) -> bool:
        net = self.world.net
        if self.home is None or self.home == self.target:
            return True
        return not (net.blocked(self.home, self.target) or net.blocked(self.target, self.home))

    def _reply(self, data: int, ok: bool | None) -> None:
        if self._reaches():
            self.clock.after(self._delay(), self._answer, data, ok)

    def _answer(self, data: int, ok: bool | None) -> None:
        if data != self._attempt:
            return
        self._attempt = 0
        if ok:
            self.acknowledged += 1
            self.clock.after(self._pause(), self._send)
            return
        self._elsewhere()
        self.clock.after(60 * MS, self._send)

    def _pause(self) -> int:
        return int(self.pause_ms * MS * (0.5 + self.world.rng.random()))

    def _late(self, data: int) -> None:
        if data == self._attempt:
            self._answer(data, None)

    def _elsewhere(self) -> None:
        names = self.world.names
        self.target = names[(names.index(self.target) + 1) % len(names)]
