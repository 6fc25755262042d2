"""The simulated warden of one host: it ends a server that outlives its lease, agent or no agent.

The twin of daemon.warden. Told by the agent at its looks, with the deciders' own question of who
writes alone; keeps time by the host's clock, and dies with the host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.model import action as act
from pgherd.model.demotion import WARDEN_MS
from pgherd.model.ids import Instant
from pgherd.model.observation import ServerSeen
from pgherd.plan.wardship import is_closing, writes_alone
from pgherd.sim.clock import MS, Proc

if TYPE_CHECKING:
    from pgherd.sim.agent import Agent
    from pgherd.sim.world import Node

FROZEN_LOOK = 10 * MS
"""So soon it runs when its host, which was frozen, goes on."""


class Warden:
    """What the agent last said on one host. ended: how many servers it ended."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.ended = 0
        self._until: Instant | None = None
        self._deadline: Instant | None = None
        self._server: Proc | None = None
        self._told_by: Agent | None = None

    def before(self, agent: Agent, seen: ServerSeen, planned: act.Action | None) -> None:
        """Whenever the agent looks, and before a server opens.

        Only the agent that told of a deadline says that it is over: another one, which was started
        since, does not know whether closed names count.
        """
        if not writes_alone(seen, planned):
            if agent is self._told_by and not is_closing(seen, planned):
                self.rest()
            return
        deadline = agent.lease_deadline()
        if deadline is None or deadline <= agent.now or deadline == self._deadline:
            return
        self._deadline, self._server = deadline, self.node.server.proc
        self._told_by = agent
        self._until = Instant(deadline + WARDEN_MS)
        self._wait(self._until)

    def rest(self) -> None:
        """Nothing is written alone any more."""
        self._until = self._deadline = self._told_by = None

    def _wait(self, until: Instant) -> None:
        clock, boots = self.node.world.clock, self.node.boottime.boots
        wait = self.node.boottime.true(until) - clock.now
        clock.after(max(wait, FROZEN_LOOK), self._look, until, boots)

    def _look(self, until: Instant, boots: int) -> None:
        server = self.node.server
        if self._until != until or self.node.boottime.boots != boots or not self.node.host_up:
            return
        if server.proc is None or server.proc is not self._server:
            return
        if server.proc.paused:
            self._wait(until)
            return
        self.rest()
        self.ended += 1
        self.node.world.log(self.node.name, "the warden ends its server")
        server.crash()
