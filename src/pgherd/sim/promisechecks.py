"""I12 and I15 where an act would break them: what a promise or a marker forbids is not done.

Owns the two questions; `world` and `checks` ask them when an act begins and a server is promoted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.model import action as act
from pgherd.model.ids import NodeId

if TYPE_CHECKING:
    from pgherd.sim.world import World


def on_act(world: World, node: NodeId, action: act.Action) -> None:
    """I15: a directory whose rewind was cut short is not started as it is."""
    promises = world.promises(node)
    world.checks.evaluated += 1
    if isinstance(action, act.StartStandby) and promises.dirty_rewind:
        world.checks.fail("I15", f"{node} starts a half rewound directory, {promises}")


def on_promoted(world: World, node: NodeId) -> None:
    """I12: a sealed server does not begin to write, but for the term that it is sealed for."""
    promises = world.promises(node)
    world.checks.evaluated += 1
    if promises.promise > promises.adopted:
        world.checks.fail("I12", f"{node} is promoted below its promise, {promises}")
