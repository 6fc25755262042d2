"""What can be done to one node: the blows of which the kinds of faults are made.

Each plans its own end. Whom they hit and when is `faults`' business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgherd.sim.faults import Chaos
    from pgherd.sim.world import Node


def resume(node: Node) -> None:
    """Let all processes of a node go on."""
    clock = node.world.clock
    agent, server = node.agent, node.server
    if agent is not None and agent.proc.paused:
        clock.resume(agent.proc)
    if server.proc is not None and server.proc.paused:
        server.hung_since, server.awake_since = 0, clock.now
        clock.resume(server.proc)


def crash_node(chaos: Chaos, node: Node | None) -> bool:
    if node is None or node.agent is None:
        return False
    node.crash()
    chaos.later(500, 15_000, node.boot)
    return True


def kill_postmaster(chaos: Chaos, node: Node | None) -> bool:
    if node is None or node.server.proc is None:
        return False
    node.server.crash()
    return True


def kill_agent(chaos: Chaos, node: Node) -> bool:
    if node.agent is None:
        return False
    node.kill_agent()
    long = chaos.rng.random() < 0.3
    chaos.later(*((3_000, 20_000) if long else (200, 1_000)), node.boot)
    return True


def pause_agent(chaos: Chaos, node: Node) -> bool:
    agent = node.agent
    if agent is None or agent.proc.paused:
        return False
    agent.proc.paused = True
    chaos.later(500, 30_000, lambda: resume(node))
    return True


def pause_node(chaos: Chaos, node: Node) -> bool:
    """Both stand still; an agent that is started meanwhile finds a server that does not answer."""
    if not pause_agent(chaos, node):
        return False
    if node.server.proc is not None:
        node.server.hang()
        node.server.proc.paused = True
    return True


def away(chaos: Chaos, node: Node) -> bool:
    if node.agent is None:
        return False
    node.crash()
    chaos.later(12_000, 30_000, node.boot)
    return True
