"""Faults of fencing commands, and what an operator overrides: members that are given up for lost.

The stories of `giving` are told from beginning to end; here the same happens among other faults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pgherd.model.facts import Kind, Phase
from pgherd.sim.clock import MS
from pgherd.sim.giving import PATIENCE, Operator
from pgherd.sim.netfaults import block

if TYPE_CHECKING:
    from pgherd.sim.faults import Chaos

BEHIND_MS = 8_000
OPERATOR_MS = 14_000
"""For so long a person looks whether an election can end."""


def spoil_fence(chaos: Chaos, how: str) -> bool:
    """For a while the command fails, or is killed at its deadline."""
    fences = chaos.world.fences
    if fences.fault:
        return False
    fences.fault = how
    chaos.later(3_000, 12_000, lambda: setattr(fences, "fault", ""))
    return True


def give_up(chaos: Chaos) -> bool:
    """One replica falls behind, all other copies are away, and a person gives them up.

    They return later, perhaps while that goes on. Only with whole copies, one such story at a time.
    """
    world, facts = chaos.world, chaos.world.facts()
    data = [node for node in world.nodes.values() if node.kind is Kind.DATA]
    well = all(node.agent is not None and node.server.dir is not None for node in data)
    if facts is None or facts.phase is not Phase.STABLE or facts.leader is None or not well:
        return False
    if any(node.asks for node in world.nodes.values()):
        return False
    behind = chaos.rng.choice([node for node in data if not facts.is_leader(node.name)])
    names = [name for name in world.names if name != behind.name]
    links = [link for name in names for link in ((behind.name, name), (name, behind.name))]
    lag = chaos.rng.randrange(500, BEHIND_MS)

    def strike() -> None:
        for node in data:
            if node is not behind:
                node.crash()
                chaos.later(6_000, OPERATOR_MS + 4_000, node.boot)
        until = world.clock.now + PATIENCE + OPERATOR_MS * MS
        operator = Operator(world, is_over=lambda: chaos.over or world.clock.now > until)
        world.clock.after(PATIENCE, operator.look)

    world.clock.after(lag * MS, chaos.unless_over, strike)
    return block(chaos, links, low_ms=lag, high_ms=lag + 1)


KINDS: dict[str, Callable[[Chaos], bool]] = {
    "fence.fails": lambda c: spoil_fence(c, "fails"),
    "fence.hangs": lambda c: spoil_fence(c, "hangs"),
    "given.up": give_up,
}
