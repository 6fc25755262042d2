"""Faults made for mutants: several strokes in a row that plain chance would seldom draw.

A plot makes the window likely in which one rule of the protocol is all that keeps a commit. Only
mutants draw plots. On the real code they are faults like others: a mutant counts as caught only
where the same seed holds without it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pgherd.model import action as act
from pgherd.model.facts import Kind, Phase
from pgherd.model.ids import NodeId
from pgherd.model.observation import Server
from pgherd.sim import byhand, restoring
from pgherd.sim.clock import MS
from pgherd.sim.faults import Chaos, Strike, lose_store_of, write_much
from pgherd.sim.lonefaults import lone_holder
from pgherd.sim.netfaults import block
from pgherd.sim.strikes import crash_node, kill_agent, pause_node, resume
from pgherd.sim.world import Node

WRITES_ALONE = 800
"""More than the writers write in the time for which a primary is cut off."""

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
        lambda: isolate(chaos, node, low_ms=8_000, high_ms=18_000),
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


def behind(harm: Callable[[Chaos, Node], object], *, after_ms: int = 2_000) -> Strike:
    """One replica gets WAL late; harm comes to another one, and the primary goes."""

    def strike(chaos: Chaos) -> bool:
        leader, others = chaos.leader(), standbys(chaos)
        if leader is None or len(others) < 2:
            return False
        late, holder = chaos.rng.sample(others, 2)
        net, lag = chaos.world.net, chaos.rng.randrange(400, 900) * MS
        net.slow(leader.name, late.name, lag)
        then(chaos, after_ms, lambda: harm(chaos, holder))
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
    """One replica's data is gone, while all others have theirs."""
    data = [one for one in chaos.world.nodes.values() if one.kind is Kind.DATA]
    if node in standbys(chaos) and all(one.server.dir is not None for one in data):
        node.server.lose_data()


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

    def watch(name: NodeId, event: object) -> None:
        node = chaos.world.nodes[name]
        if not isinstance(event, kinds) or only not in (None, node):
            return
        if watch in chaos.world.watchers:
            chaos.world.watchers.remove(watch)
            then(chaos, chaos.rng.randrange(*after_ms), lambda: stroke(node))

    chaos.world.watchers.append(watch)


def cut_winner(chaos: Chaos) -> bool:
    """The next new primary is cut off and writes much; it is back as the one after it goes."""

    def strike(node: Node) -> None:
        back = chaos.rng.randrange(9_000, 16_000)
        isolate(chaos, node, low_ms=back, high_ms=back + 1)
        write(chaos, node)
        then(chaos, back - 100, lambda: leader_goes(chaos))

    when(chaos, (act.Promote,), strike, after_ms=(250, 600))
    return True


def leader_goes(chaos: Chaos) -> None:
    leader = chaos.leader()
    if leader is not None:
        put_away(chaos, leader)


def write(chaos: Chaos, node: Node, *, rows: int = WRITES_ALONE) -> None:
    if node.server.proc is not None and node.server.primary:
        chaos.world.clock.spawn(node.server.proc, write_much(node, rows))


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


def back_early(chaos: Chaos) -> bool:
    """A primary that wrote on alone is back as its successor begins; who rejoins has no luck."""
    leader = chaos.leader()
    if leader is None or len(standbys(chaos)) < 2 or not leader.server.primary:
        return False
    if any(chaos.world.net.blocked(leader.name, name) for name in chaos.world.names):
        return False
    heal = cut(chaos, leader)
    write(chaos, leader, rows=300)
    if chaos.rng.random() < 0.5:  # then it is a standby already when it is back
        then(chaos, 700, leader.server.crash)

    def back(winner: Node) -> None:
        heal()
        when(
            chaos, (act.Checkpoint,), lambda node: stall(chaos, node), after_ms=(0, 3), only=winner
        )
        if chaos.rng.random() < 0.5:
            then(chaos, chaos.rng.randrange(2_000, 6_000), lambda: leader_goes(chaos))
        else:
            when(chaos, (act.Rewind,), dies, after_ms=(0, 500), only=leader)

    def dies(node: Node) -> None:
        kill_agent(chaos, node)
        then(chaos, chaos.rng.randrange(400), lambda: leader_goes(chaos))

    when(chaos, (act.Promote,), back, after_ms=(100, 500))
    chaos.later(8_000, 9_000, heal)
    return True


def forget_rewinding(chaos: Chaos) -> bool:
    """Who is rewound next dies with its server before that has come up, and loses its store."""

    def strike(node: Node) -> None:
        node.server.crash()
        if lose_store_of(chaos, node):
            then(chaos, 1_000, node.boot)

    when(chaos, (act.Rewind,), strike, after_ms=(300, 2_500))
    return True


def dies_fencing(chaos: Chaos) -> bool:
    """The primary is cut off, and who is to fence it goes before it has."""
    leader = chaos.leader()
    if leader is None:
        return False
    when(chaos, (act.Fence,), lambda node: put_away(chaos, node), after_ms=(0, 20))
    return isolate(chaos, leader, low_ms=12_000, high_ms=18_000)


def stall(chaos: Chaos, node: Node) -> None:
    """An agent stands still for a little less than what makes it suspect."""
    agent = node.agent
    if agent is not None and not agent.proc.paused:
        agent.proc.paused = True
        chaos.later(1_200, 1_400, lambda: resume(node))


def cut(chaos: Chaos, node: Node) -> Callable[[], None]:
    """Nobody hears this node, nor it them, until what is returned is called."""
    net, names = chaos.world.net, chaos.world.names
    links = [(a, b) for a in names for b in names if a != b and node.name in (a, b)]
    for a, b in links:
        net.block(a, b)

    def heal() -> None:
        while links:
            net.unblock(*links.pop())

    return heal


def back_first(chaos: Chaos) -> bool:
    """A primary that wrote on alone is back before the replica that lagged has caught up."""
    leader, others = chaos.leader(), standbys(chaos)
    if leader is None or len(others) != 2:
        return False
    late, holder = chaos.rng.sample(others, 2)
    net = chaos.world.net

    def strike() -> None:
        heal = cut(chaos, leader)
        write(chaos, leader)
        when(chaos, (act.Promote,), lambda _: swap(heal), after_ms=(20, 60), only=holder)
        chaos.later(8_000, 9_000, heal)

    def swap(heal: Stroke) -> None:
        heal()
        block(chaos, [(holder.name, late.name), (late.name, holder.name)], low_ms=8_000)

    net.slow(leader.name, late.name, 900 * MS)
    then(chaos, 2_000, strike)
    chaos.later(4_000, 5_000, lambda: net.slow(leader.name, late.name, 0))
    return True


def crash_promising(chaos: Chaos) -> bool:
    """A node whose disk is slow crashes soon after it has begun to promise."""
    node = chaos.any_node()
    if node.agent is None:
        return False
    node.agent.writer.slow = 400 * MS
    when(chaos, (act.Seal, act.CloseGate), partial(crash_node, chaos), after_ms=(5, 300), only=node)
    return True


def borrower_dies(chaos: Chaos) -> bool:
    """The agent of whoever catches up next dies while its server goes on; the old primary is back.

    So another one is elected, and the holder writes or follows.
    """

    def strike(node: Node) -> None:
        node.kill_agent()
        then(chaos, chaos.rng.randrange(9_000, 16_000), node.boot)

    when(chaos, (act.FastForward,), strike, after_ms=(20, 200))
    return lone_holder(chaos)


# --- few replicas are left, then all are there --------------------------------------------------


def few(chaos: Chaos, *, left: int = 1) -> bool:
    """All replicas' servers but so many stand still until fewer must acknowledge.

    They go on as the primary goes: they lack what was acknowledged, and can be sealed.
    """
    leader, others = chaos.leader(), standbys(chaos)
    if leader is None or len(others) < 2:
        return False
    still = chaos.rng.sample(others, len(others) - left)
    for node in still:
        if node.server.proc is not None:
            node.server.proc.paused = True
    back = chaos.rng.randrange(11_000, 15_000)
    then(chaos, back, lambda: put_away(chaos, leader))

    def go_on() -> None:
        for node in still:
            resume(node)

    chaos.later(back, back + 100, go_on)
    return True


def deafen_winner(chaos: Chaos) -> bool:
    """The next new primary is heard by all and hears nobody: nobody can stream from it."""

    def strike(node: Node) -> None:
        others = [name for name in chaos.world.names if name != node.name]
        block(chaos, [(name, node.name) for name in others], low_ms=4_000, high_ms=8_000)

    when(chaos, (act.Promote,), strike, after_ms=(0, 3))
    return True


# --- a person promotes a replica ------------------------------------------------------------------


def by_hand(chaos: Chaos) -> bool:
    """A replica is promoted while its agent is away, is stopped, and is back after a failover."""
    leader, others = chaos.leader(), standbys(chaos)
    if leader is None or len(others) < 2 or any(not byhand.is_whole(node) for node in others):
        return False
    node = chaos.rng.choice(others)
    if node.agent is None or node.server.state is not Server.STANDBY:
        return False
    node.kill_agent()
    byhand.promote(chaos, node)
    then(chaos, 2_000, node.server.stop_fast)
    then(chaos, 2_000, lambda: put_away(chaos, leader))
    then(chaos, 3_000 + chaos.rng.randrange(6_000), node.boot)
    return True


def by_hand_at_the_fork(chaos: Chaos) -> bool:
    """A failover; who is about to follow is promoted where the winner is, before it reaches it."""
    leader, others = chaos.leader(), standbys(chaos)
    if leader is None or len(others) < 2 or any(not byhand.is_whole(node) for node in others):
        return False

    def strike(node: Node) -> None:
        if node.agent is None or node.server.state is not Server.STANDBY:
            return
        node.kill_agent()
        byhand.promote(chaos, node)
        then(chaos, 1_500, node.server.stop_fast)
        then(chaos, 2_000, lambda: leader_goes(chaos))
        then(chaos, 3_000 + chaos.rng.randrange(3_000), node.boot)

    when(chaos, (act.Follow,), strike, after_ms=(2, 12))
    put_away(chaos, leader)
    return True


# --- the ledger is one of before ------------------------------------------------------------------


def restored_ledger(chaos: Chaos) -> bool:
    """After a failover that it does not know of, a saved ledger is restored on all nodes."""
    world, leader = chaos.world, chaos.leader()
    saved = restoring.save(world)
    if saved is None or leader is None or not restoring.can_restore(world, saved):
        return False

    def restore() -> None:
        if not restoring.can_restore(world, saved):
            return
        world.net.heal()
        restoring.restore(world, saved)
        chaos.count("ledger.restored")
        for node in world.nodes.values():
            node.host_up = True
            then(chaos, chaos.rng.randrange(4_000), node.boot)

    isolate(chaos, leader, low_ms=7_000, high_ms=8_000)
    then(chaos, 8_000 + chaos.rng.randrange(4_000), restore)
    return True


PLOTS: dict[str, Strike] = {
    "plot.behind": behind(nothing),
    "plot.behind.replay": behind(slow_replay, after_ms=300),
    "plot.behind.data": behind(lose_data),
    "plot.behind.crash": behind(crash_node),
    "plot.winner.cut": cut_winner,
    "plot.winner.deaf": deafen_winner,
    "plot.winner.restarts": restart_winner,
    "plot.back.early": back_early,
    "plot.back.first": back_first,
    "plot.borrower.dies": borrower_dies,
    "plot.rewind.forgotten": forget_rewinding,
    "plot.fence.dies": dies_fencing,
    "plot.few": few,
    "plot.promise": crash_promising,
    "plot.restored": restored_ledger,
    "plot.by.hand": by_hand,
    "plot.by.hand.at.fork": by_hand_at_the_fork,
    "plot.alone": lambda chaos: few(chaos, left=0),
}
"""name -> strike, like `faults.KINDS`."""
