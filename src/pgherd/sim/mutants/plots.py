"""Faults made for mutants: several strokes in a row that plain chance would seldom draw.

A plot makes the window likely in which one rule of the protocol is all that keeps a commit. Only
mutants draw plots. On the real code they are faults like others: a mutant counts as caught only
where the same seed holds without it.
"""

from __future__ import annotations

from collections.abc import Callable

from pgherd.model import action as act
from pgherd.model.facts import Kind, Phase
from pgherd.model.ids import NodeId
from pgherd.sim.clock import MS
from pgherd.sim.faults import Chaos, Strike, crash_node, kill_agent, pause_node, resume, write_much
from pgherd.sim.netfaults import block
from pgherd.sim.world import Node

Stroke = Callable[[], object]


def then(chaos: Chaos, after_ms: int, stroke: Stroke) -> None:
    """Another stroke, unless all faults have ended before."""

    def strike() -> None:
        if not chaos.over:
            stroke()

    chaos.world.clock.after(after_ms * MS, strike)


def isolate(chaos: Chaos, node: Node, *, low_ms: int, high_ms: int) -> bool:
    """Nobody hears this node, and it hears nobody."""
    names = chaos.world.names
    links = [(a, b) for a in names for b in names if node.name in (a, b)]
    return block(chaos, links, low_ms=low_ms, high_ms=high_ms)


def put_away(chaos: Chaos, node: Node) -> None:
    """A node is gone for a while: cut off, stopped, or down."""
    away: list[Stroke] = [
        lambda: isolate(chaos, node, low_ms=8_000, high_ms=16_000),
        lambda: pause_node(chaos, node),
        lambda: crash_node(chaos, node),
    ]
    chaos.rng.choice(away)()


def standbys(chaos: Chaos) -> list[Node]:
    """Data nodes that do not lead, while a term is stable; none otherwise."""
    facts, leader = chaos.world.facts(), chaos.leader()
    if facts is None or facts.phase is not Phase.STABLE or leader is None:
        return []
    nodes = [node for node in chaos.world.nodes.values() if node is not leader]
    return [node for node in nodes if node.kind is Kind.DATA and node.server.dir is not None]


# --- one replica lags, the other holds what was acknowledged -------------------------------------


def behind(harm: Callable[[Chaos, Node], object]) -> Strike:
    """One replica gets WAL late; harm comes to another one, and the primary goes."""

    def strike(chaos: Chaos) -> bool:
        leader, others = chaos.leader(), standbys(chaos)
        if leader is None or len(others) < 2:
            return False
        late, holder = chaos.rng.sample(others, 2)
        net, lag = chaos.world.net, chaos.rng.randrange(400, 900) * MS
        net.slow(leader.name, late.name, lag)
        then(chaos, 2_000, lambda: harm(chaos, holder))
        then(chaos, 2_000 + chaos.rng.randrange(300), lambda: put_away(chaos, leader))
        chaos.later(4_000, 5_000, lambda: net.slow(leader.name, late.name, 0))
        return True

    return strike


def slow_replay(chaos: Chaos, node: Node) -> None:
    """What a replica has is replayed late."""
    server = node.server
    server.replay_delay = chaos.rng.randrange(3_000, 6_000) * MS

    def undo() -> None:
        server.replay_delay = 0

    chaos.later(8_000, 12_000, undo)


def lose_data(chaos: Chaos, node: Node) -> None:
    node.server.lose_data()


def kill_server(chaos: Chaos, node: Node) -> None:
    node.server.crash()


def nothing(chaos: Chaos, node: Node) -> None:
    """No harm."""


# --- the winner of an election, or who joins it, in the wrong moment -----------------------------


def when(
    chaos: Chaos,
    kinds: tuple[type[act.Action], ...],
    stroke: Callable[[Node], object],
    *,
    after_ms: tuple[int, int],
    only: Node | None = None,
) -> None:
    """Strike a node, or only this one, a little after its next act of a kind has begun."""

    def watch(name: NodeId, action: act.Action) -> None:
        node = chaos.world.nodes[name]
        if not isinstance(action, kinds) or only not in (None, node):
            return
        if watch in chaos.world.watchers:
            chaos.world.watchers.remove(watch)
            then(chaos, chaos.rng.randrange(*after_ms), lambda: stroke(node))

    chaos.world.watchers.append(watch)


def cut_winner(chaos: Chaos) -> bool:
    """The next new primary is cut off and writes much that nobody gets."""

    def strike(node: Node) -> None:
        isolate(chaos, node, low_ms=9_000, high_ms=16_000)
        write(chaos, node)

    when(chaos, (act.Promote,), strike, after_ms=(250, 600))
    return True


def write(chaos: Chaos, node: Node) -> None:
    if node.server.proc is not None and node.server.primary:
        chaos.world.clock.spawn(node.server.proc, write_much(node, 200))


def restart_winner(chaos: Chaos) -> bool:
    """The next winner is away before it promotes, and again when it has promised more."""

    def strike(node: Node) -> None:
        restart(node, after_ms=2_400)
        when(chaos, (act.Seal,), restart_soon, after_ms=(20, 160), only=node)

    def restart_soon(node: Node) -> None:
        restart(node, after_ms=100)

    def restart(node: Node, *, after_ms: int) -> None:
        node.kill_agent()
        then(chaos, after_ms, node.boot)

    when(chaos, (act.Promote,), strike, after_ms=(0, 1))
    return True


def kill_rejoining(chaos: Chaos) -> bool:
    """Who rejoins next loses its agent, and the leader goes."""

    def strike(node: Node) -> None:
        leader = chaos.leader()
        kill_agent(chaos, node)
        if leader is not None and leader is not node:
            then(chaos, chaos.rng.randrange(400), lambda: put_away(chaos, leader))

    when(chaos, (act.Rewind, act.Rebuild), strike, after_ms=(0, 1500))
    return True


def back_first(chaos: Chaos) -> bool:
    """A primary that wrote on alone is back before the replica that lagged has caught up."""
    leader, others = chaos.leader(), standbys(chaos)
    if leader is None or len(others) != 2:
        return False
    late, holder = chaos.rng.sample(others, 2)
    net = chaos.world.net
    away = [(a, leader.name) for a in (late.name, holder.name)]
    away += [(b, a) for a, b in away]

    def cut() -> None:
        for a, b in away:
            net.block(a, b)
        write(chaos, leader)

    def swap(winner: Node) -> None:
        for a, b in away:
            net.unblock(a, b)
        block(chaos, [(winner.name, late.name), (late.name, winner.name)], low_ms=8_000)

    net.slow(leader.name, late.name, 900 * MS)
    then(chaos, 2_000, cut)
    when(chaos, (act.Promote,), swap, after_ms=(20, 60), only=holder)
    chaos.later(4_000, 5_000, lambda: net.slow(leader.name, late.name, 0))
    return True


# --- few replicas are left, then all are back ----------------------------------------------------


def few(chaos: Chaos, *, left: int = 1) -> bool:
    """All replicas but so many are away until fewer must acknowledge; they return, the primary goes.

    Less than half of the nodes go down, of the others only the servers: consensus goes on.
    """
    leader, others = chaos.leader(), standbys(chaos)
    if leader is None or len(others) < 2:
        return False
    away = chaos.rng.sample(others, len(others) - left)
    back = chaos.rng.randrange(9_500, 12_000)
    for place, node in enumerate(away):
        if place < (len(chaos.world.names) - 1) // 2:
            node.crash()
        elif node.server.proc is not None:
            node.server.proc.paused = True
    then(chaos, back, lambda: [return_to_life(node) for node in away])
    then(chaos, back + chaos.rng.randrange(400), lambda: put_away(chaos, leader))
    return True


def return_to_life(node: Node) -> None:
    node.boot()
    resume(node)


PLOTS: dict[str, Strike] = {
    "plot.behind": behind(nothing),
    "plot.behind.replay": behind(slow_replay),
    "plot.behind.data": behind(lose_data),
    "plot.behind.start": behind(kill_server),
    "plot.winner.cut": cut_winner,
    "plot.winner.restarts": restart_winner,
    "plot.rejoin": kill_rejoining,
    "plot.back.first": back_first,
    "plot.few": few,
    "plot.alone": lambda chaos: few(chaos, left=0),
}
"""name -> strike, like `faults.KINDS`."""
