"""The faults of the simulated network: who does not hear whom, what comes late, twice or never.

Each undoes itself after a while; drawing them is `faults`' business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.model.ids import NodeId
from pgherd.sim.clock import MS
from pgherd.sim.network import Plane

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
    return leader is not None and isolate(chaos, leader.name)


def isolate(chaos: Chaos, node: NodeId, plane: Plane = "") -> bool:
    """Nobody reaches a node, nor does it reach anybody."""
    names = chaos.world.names
    return block(chaos, [(a, b) for a in names for b in names if node in (a, b)], plane=plane)


def isolate_raft_leader(chaos: Chaos) -> bool:
    agent = chaos.world.raft_leader()
    return agent is not None and isolate(chaos, agent.node)


def cut_off_peers(chaos: Chaos) -> bool:
    """The primary's agent reaches no other, while clients and standbys reach its server."""
    leader = chaos.leader()
    return leader is not None and isolate(chaos, leader.name, "peer")


def cut_off_standbys(chaos: Chaos) -> bool:
    """No standby reaches the primary's server, while all agents reach each other."""
    leader = chaos.leader()
    return leader is not None and isolate(chaos, leader.name, "sql")


def lag(chaos: Chaos) -> bool:
    """The WAL of one standby is late by seconds."""
    leader, other = chaos.leader(), chaos.other()
    if leader is None or other is None:
        return False
    net, link = chaos.world.net, (leader.name, other.name)
    net.lag(*link, chaos.rng.randrange(300, 4_000) * MS)
    chaos.later(2_000, 15_000, lambda: net.lag(*link, 0))
    return True


def repeats(chaos: Chaos) -> bool:
    """No message is lost, but half of them come twice, and all out of order."""
    net = chaos.world.net
    net.repeat, net.jitter = 0.5, 300 * MS

    def undo() -> None:
        net.repeat, net.jitter = 0.0, 0

    chaos.later(1_000, 12_000, undo)
    return True


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
    plane: Plane = "",
) -> bool:
    net = chaos.world.net
    for a, b in links:
        if a != b:
            net.block(a, b, plane)

    def undo() -> None:
        for a, b in links:
            if a != b:
                net.unblock(a, b, plane)

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


KINDS = {
    "raft.leader.isolated": isolate_raft_leader,
    "primary.cut_off.peers": cut_off_peers,
    "primary.cut_off.standbys": cut_off_standbys,
    "replica.lags": lag,
    "network.repeats": repeats,
}
"""Those that only later storms know."""
