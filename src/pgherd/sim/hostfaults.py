"""The faults of hosts and agents beyond a single blow: several at once, again and again, its clock.

Drawing them is `faults`' business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.sim.clock import MS, Task
from pgherd.sim.strikes import crash_node, kill_postmaster, pause_agent

if TYPE_CHECKING:
    from pgherd.sim.faults import Chaos

HOUR_MS = 3_600_000


def crash_two(chaos: Chaos) -> bool:
    """Two hosts at once."""
    nodes = [node for node in chaos.world.nodes.values() if node.agent is not None]
    if len(nodes) < 2:
        return False
    for node in chaos.rng.sample(nodes, 2):
        crash_node(chaos, node)
    return True


def crash_loop(chaos: Chaos) -> bool:
    """An agent is killed again and again, hardly started."""
    node = chaos.any_node()
    if node.agent is None:
        return False

    def loop() -> Task:
        for blow in [node.kill_agent, node.boot] * chaos.rng.randrange(4, 12):
            if not chaos.over and node.host_up:
                blow()
            yield chaos.rng.randrange(50, 900) * MS

    chaos.world.clock.spawn(None, loop())
    return True


def pause_all_agents(chaos: Chaos) -> bool:
    struck = [pause_agent(chaos, node) for node in chaos.world.nodes.values()]
    return any(struck)


def kill_all_servers(chaos: Chaos) -> bool:
    struck = [kill_postmaster(chaos, node) for node in chaos.world.nodes.values()]
    return any(struck)


def jump_clock(chaos: Chaos) -> bool:
    """The wall clock of a host, or of all, is wrong by up to an hour; nothing may depend on it."""
    nodes = [chaos.any_node()] if chaos.rng.random() < 0.7 else [*chaos.world.nodes.values()]
    for node in nodes:
        node.wall_wrong_ms = chaos.rng.randrange(-HOUR_MS, HOUR_MS)

    def undo() -> None:
        for node in nodes:
            node.wall_wrong_ms = 0

    chaos.later(5_000, 30_000, undo)
    return True


def fill_store(chaos: Chaos) -> bool:
    """The disk of a store is full: what an agent has to store ends it, until there is room."""
    node = chaos.any_node()
    if node.agent is None:
        return False
    node.store_full = True
    node.disk.fail_next("full")

    def undo() -> None:
        node.store_full = False
        node.disk.fault = ""

    chaos.later(500, 10_000, undo)
    return True


KINDS = {
    "nodes.crashed.two": crash_two,
    "agent.crash_loop": crash_loop,
    "agents.paused.all": pause_all_agents,
    "servers.killed.all": kill_all_servers,
    "clock.jumps": jump_clock,
    "store.full": fill_store,
}
