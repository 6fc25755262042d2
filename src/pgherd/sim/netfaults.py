"""The faults of the simulated network: who does not hear whom, what comes late, twice or never.

Each undoes itself after a while; drawing them is `faults`' business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.model.ids import NodeId
from pgherd.sim.clock import MS

if TYPE_CHECKING:
    from pgherd.sim.faults import Chaos


def partition(chaos: Chaos) -> bool:
    """The nodes fall into two groups."""
    names = chaos.world.names
    cut = chaos.rng.sample(names, chaos.rng.randint(1, max(1, len(names) // 2)))
    links = [(a, b) for a in names for b in names if (a in cut) != (b in cut)]
    return block(chaos, links)


def isolate_leader(chaos: Chaos) -> bool:
    leader = chaos.leader()
    if leader is None:
        return False
    names = chaos.world.names
    return block(chaos, [(a, b) for a in names for b in names if leader.name in (a, b)])


def one_way(chaos: Chaos) -> bool:
    """One node is not heard any more, or does not hear."""
    node, names = chaos.any_node().name, chaos.world.names
    deaf = chaos.rng.random() < 0.5
    return block(chaos, [(n, node) if deaf else (node, n) for n in names if n != node])


def partial_mesh(chaos: Chaos) -> bool:
    """One pair of nodes does not reach each other, though both reach the rest."""
    a, b = chaos.rng.sample(chaos.world.names, 2)
    return block(chaos, [(a, b), (b, a)])


def flapping(chaos: Chaos) -> bool:
    """A pair of links goes up and down."""
    a, b = chaos.rng.sample(chaos.world.names, 2)
    for i in range(8):
        chaos.world.clock.after(i * 900 * MS, flap, chaos, a, b)
    return True


def flap(chaos: Chaos, a: NodeId, b: NodeId) -> None:
    if not chaos.over:
        block(chaos, [(a, b), (b, a)], low_ms=200, high_ms=800)


def block(
    chaos: Chaos,
    links: list[tuple[NodeId, NodeId]],
    *,
    low_ms: int = 500,
    high_ms: int = 15_000,
) -> bool:
    net = chaos.world.net
    for a, b in links:
        if a != b:
            net.block(a, b)

    def undo() -> None:
        for a, b in links:
            if a != b:
                net.unblock(a, b)

    chaos.later(low_ms, high_ms, undo)
    return True


def bad_network(chaos: Chaos) -> bool:
    """Messages are lost, repeated, late and out of order."""
    net = chaos.world.net
    net.loss, net.repeat = chaos.rng.random() * 0.3, chaos.rng.random() * 0.2
    net.jitter = chaos.rng.randrange(200) * MS

    def undo() -> None:
        net.loss = net.repeat = 0.0
        net.jitter = 0

    chaos.later(1_000, 12_000, undo)
    return True


def slow_link(chaos: Chaos) -> bool:
    """A direction is late by up to 400 ms."""
    a, b = chaos.rng.sample(chaos.world.names, 2)
    chaos.world.net.slow(a, b, chaos.rng.randrange(10, 400) * MS)
    chaos.later(1_000, 15_000, lambda: chaos.world.net.slow(a, b, 0))
    return True
