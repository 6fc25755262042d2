"""The fault for which there is a fast-forward: what was acknowledged is where nobody may lead."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pgherd.model.ids import NodeId
from pgherd.sim.clock import MS, SECOND
from pgherd.sim.strikes import away, crash_node, kill_agent, kill_postmaster, pause_node

if TYPE_CHECKING:
    from pgherd.sim.faults import Chaos


def lone_holder(chaos: Chaos) -> bool:
    """WAL reaches those that may lead late, then the primary goes; at times one more goes then."""
    world, leader, facts = chaos.world, chaos.leader(), chaos.world.facts()
    if leader is None or facts is None:
        return False
    others = {n: m for n, m in facts.members.items() if n != leader.name}
    late = [node for node, member in others.items() if not member.tags.nofailover]
    if not late or len(late) == len(others):
        return False
    for node in late:
        world.net.lag(leader.name, node, chaos.rng.randrange(300, 2_000) * MS)
        chaos.later(4_000, 6_000, partial(world.net.lag, leader.name, node, 0))
    goes = chaos.rng.choice([crash_node, away, pause_node])
    at = 2 * SECOND + chaos.rng.randrange(SECOND)
    world.clock.after(at, chaos.unless_over, lambda: goes(chaos, leader))
    if chaos.rng.random() < 0.4:
        harm_soon(chaos, chaos.rng.choice(sorted(others)), at)
    return True


def harm_soon(chaos: Chaos, node: NodeId, at: int) -> None:
    """As the others elect: an agent is killed, a server dies, or the host does."""
    harm = chaos.rng.choice([kill_agent, kill_postmaster, crash_node])
    soon = at + (1_300 + chaos.rng.randrange(900)) * MS
    victim = chaos.world.nodes[node]
    chaos.world.clock.after(soon, chaos.unless_over, lambda: harm(chaos, victim))


KINDS: dict[str, Callable[[Chaos], bool]] = {"lone.holder": lone_holder}
