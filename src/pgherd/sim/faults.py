"""The faults that strike a simulated herd: a table of kinds, and the schedule that draws them.

Each kind does its harm and plans its own end; `Chaos.end` ends whatever is left. Some lie in wait:
they strike in the middle of the next act of a kind, where plain chance would seldom hit.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from pgherd.ledger import commands as cmd
from pgherd.model.facts import Kind, Mode, Phase
from pgherd.model.ids import NodeId
from pgherd.sim import (
    ambushes,
    amnesia,
    byhand,
    hostfaults,
    lonefaults,
    modefaults,
    netfaults,
    operators,
    overridefaults,
    serverfaults,
)
from pgherd.sim.clock import MS, SECOND, Task
from pgherd.sim.moves import invite
from pgherd.sim.netfaults import (
    bad_network,
    flapping,
    isolate_leader,
    one_way,
    partial_mesh,
    partition,
    slow_link,
)
from pgherd.sim.strikes import (
    away,
    crash_node,
    kill_agent,
    kill_postmaster,
    pause_agent,
    pause_node,
    resume,
)
from pgherd.sim.world import Node, World

Strike = Callable[["Chaos"], bool]


OWN_KINDS_PART = 0.4


class Chaos:
    """Draws faults, and makes everything whole again at the end."""

    def __init__(self, world: World, rng: Random) -> None:
        self.world = world
        self.rng = rng
        self.kinds: dict[str, Strike] = dict(FIRST_KINDS)
        self.own = world.shape.kinds
        self.over = False
        self._ordered = 0

    def schedule(self, *, first: int, last: int, count: int) -> None:
        """Plan faults between two instants; some come in pairs."""
        for _ in range(count):
            at = first + self.rng.randrange(last - first)
            self.world.clock.after(at, self.strike, self.draw())
            if self.rng.random() < 0.35:
                soon = at + self.rng.randrange(3 * SECOND)
                self.world.clock.after(soon, self.strike, self.draw())

    def draw(self) -> str:
        """A kind of fault; of a shape's own kinds, where it has any, more often than of others."""
        own = self.own
        if own and self.rng.random() < OWN_KINDS_PART:
            return self.rng.choice(own)
        return self.rng.choice(list(self.kinds))

    def strike(self, name: str) -> None:
        """Let one fault happen, if it can."""
        if not self.over and (self.kinds | MOVING)[name](self):
            self.count(name)

    def count(self, name: str) -> None:
        self.world.stats.faults[name] = self.world.stats.faults.get(name, 0) + 1
        self.world.log(NodeId("-"), "FAULT", name)

    def later(self, low_ms: int, high_ms: int, undo: Callable[[], None]) -> None:
        """End a fault after a while, unless all have ended before."""
        delay = self.rng.randrange(low_ms, high_ms) * MS
        self.world.clock.after(delay, self.unless_over, undo)

    def unless_over(self, act: Callable[[], object]) -> None:
        if not self.over:
            act()

    def end(self) -> None:
        """Faults stop: links work, processes run, agents are started again."""
        self.over = True
        world = self.world
        world.net.heal()
        world.watchers.clear()
        world.no_more_stale()
        world.fences.fault = ""
        if world.shape.tended:
            operators.finish(world)
        for node in world.nodes.values():
            resume(node)
            serverfaults.heal(node.server)
            node.store_full, node.disk.fault, node.wall_wrong_ms = False, "", 0
            if node.agent is None:
                node.boot()
            if node.agent is not None:
                node.agent.writer.slow = 0
        world.log(NodeId("-"), "faults stop")

    def order(self) -> str:
        """A new id for an operator's wish."""
        self._ordered += 1
        return f"order{self._ordered}"

    # -- whom to strike --------------------------------------------------------------------------

    def any_node(self) -> Node:
        return self.world.nodes[self.rng.choice(self.world.names)]

    def leader(self) -> Node | None:
        facts = self.world.facts()
        if facts is None or facts.leader is None:
            return None
        return self.world.nodes[facts.leader.node]

    def other(self) -> Node | None:
        """A node that does not lead."""
        leader = self.leader()
        names = [n for n in self.world.names if leader is None or n != leader.name]
        return self.world.nodes[self.rng.choice(names)] if names else None


def slow_disk(chaos: Chaos) -> bool:
    return delay_writes(chaos, by_ms=(20, 900), for_ms=(1_000, 10_000))


def hang_disk(chaos: Chaos) -> bool:
    """A node goes on reporting, but what it should store takes longer than a voter may."""
    return delay_writes(chaos, by_ms=(10_000, 20_000), for_ms=(12_000, 30_000))


def delay_writes(chaos: Chaos, *, by_ms: tuple[int, int], for_ms: tuple[int, int]) -> bool:
    """What a node stores is late for a while; both drawn from their ranges."""
    agent = chaos.any_node().agent
    if agent is None:
        return False
    writer = agent.writer
    writer.slow = chaos.rng.randrange(*by_ms) * MS

    def undo() -> None:
        writer.slow = 0

    chaos.later(*for_ms, undo)
    return True


def slow_replay(chaos: Chaos) -> bool:
    """Replay on a standby is busy: its startup process does not look at its configuration."""
    server = chaos.any_node().server
    server.replay_delay = chaos.rng.randrange(100, 4_000) * MS

    def undo() -> None:
        server.replay_delay = 0

    chaos.later(1_000, 8_000, undo)
    return True


def slow_fsync(chaos: Chaos) -> bool:
    server = chaos.any_node().server
    server.fsync_delay = chaos.rng.randrange(5, 300) * MS

    def undo() -> None:
        server.fsync_delay = 0

    chaos.later(1_000, 8_000, undo)
    return True


def lose_data(chaos: Chaos) -> bool:
    """A replica's data directory is gone; never in the middle of an election, which may name it."""
    node, facts = chaos.other(), chaos.world.facts()
    if facts is None or facts.phase is not Phase.STABLE:
        return False
    if node is None or node.server.dir is None or node.server.primary:
        return False
    if any(one.asks or one.server.by_hand for one in chaos.world.nodes.values()):
        return False
    if sum(n.server.dir is not None for n in chaos.world.nodes.values()) < 3:
        return False
    node.server.lose_data()
    return True


def lose_store(chaos: Chaos) -> bool:
    """A node's Raft store is lost, its copy is not; one at a time, and the others can decide."""
    node = chaos.any_node()
    if not lose_store_of(chaos, node):
        return False
    chaos.later(200, 3_000, node.boot)
    return True


def lose_store_of(chaos: Chaos, node: Node) -> bool:
    """The same of one node; it is started later."""
    nodes = chaos.world.nodes.values()
    others_up = all(one.agent is not None for one in nodes if one is not node)
    leader = chaos.world.raft_leader()
    if len(nodes) < 3 or not others_up or leader is None or any(one.asks for one in nodes):
        return False
    if {*leader.replica.status().conf.voters} != {one.raft_id for one in nodes}:
        return False
    if node is chaos.leader() and (chaos.world.shape.nofailover or not copies_are_whole(chaos)):
        return False
    amnesia.forget(node)
    return True


def copies_are_whole(chaos: Chaos) -> bool:
    """Whether every voter of the sync set still has the copy that counts, and nobody spoilt one."""
    if any(node.server.by_hand for node in chaos.world.nodes.values()):
        return False
    facts = chaos.world.facts()
    voters = facts.sync.voters if facts is not None else ()
    places = [(key, chaos.world.server(key.node).dir) for key in voters]
    return all(place is not None and place.incarnation == key.incarnation for key, place in places)


def recycle(chaos: Chaos) -> bool:
    """A primary has thrown away WAL that a standby may still need."""
    leader = chaos.leader()
    if leader is None or leader.server.dir is None:
        return False
    directory = leader.server.dir
    directory.oldest = directory.last_checkpoint(directory.flushed) - 1
    return True


def hang(chaos: Chaos) -> bool:
    """A postmaster takes no connection any more, or the whole server is stopped."""
    node = chaos.any_node()
    server = node.server
    if server.proc is None or not server.up:
        return False
    server.hang()
    if chaos.rng.random() < 0.5:
        server.proc.paused = True
        chaos.later(500, 20_000, lambda: resume(node))
    return True


def burst(chaos: Chaos) -> bool:
    """A primary, perhaps one that nobody follows any more, writes much that no client asked for."""
    primaries = [n for n in chaos.world.nodes.values() if n.server.primary and n.server.up]
    if not primaries:
        return False
    node = chaos.rng.choice(primaries)
    chaos.world.clock.spawn(node.server.proc, write_much(node, chaos.rng.randrange(50, 400)))
    return True


def write_much(node: Node, count: int) -> Task:
    for _ in range(count):
        node.server.write_local("note")
        yield 2 * MS


def switchover(chaos: Chaos) -> bool:
    agent = chaos.world.raft_leader()
    if agent is None:
        return False
    node = chaos.other()
    candidate = node.name if node is not None and chaos.rng.random() < 0.5 else None
    return agent.propose(cmd.RequestSwitchover(chaos.order(), candidate, "chaos"))


def ordered_failover(chaos: Chaos) -> bool:
    agent = chaos.world.raft_leader()
    return agent is not None and agent.propose(cmd.RequestFailover(chaos.order(), None, "chaos"))


def kill_raft_leader(chaos: Chaos) -> bool:
    agent = chaos.world.raft_leader()
    return agent is not None and kill_agent(chaos, chaos.world.nodes[agent.node])


def crash_all(chaos: Chaos) -> bool:
    """The power fails everywhere."""
    struck = [crash_node(chaos, node) for node in chaos.world.nodes.values()]
    return any(struck)


def lose_voter(chaos: Chaos) -> bool:
    """A node that votes is away for longer than a voter may be."""
    agent = chaos.world.raft_leader()
    voters = agent.replica.node.conf.voters if agent is not None else ()
    nodes = [node for node in chaos.world.nodes.values() if node.raft_id in voters]
    return bool(nodes) and away(chaos, chaos.rng.choice(nodes))


def lose_zone(chaos: Chaos) -> bool:
    """All nodes of a zone are away at once."""
    world = chaos.world
    zone = world.zone_of(chaos.any_node().name)
    lost = [away(chaos, node) for node in world.nodes.values() if world.zone_of(node.name) == zone]
    return any(lost)


def join(chaos: Chaos) -> bool:
    """A host asks to become a member."""
    spares = chaos.world.spares
    if not spares:
        return False
    invite(chaos.world, spares.pop(0))
    return True


def leave(chaos: Chaos) -> bool:
    """An operator removes a member, whatever it does just now."""
    agent, facts = chaos.world.raft_leader(), chaos.world.facts()
    if agent is None or facts is None:
        return False
    staying = [node for node, member in facts.members.items() if not member.leaving]
    data = [node for node in staying if facts.members[node].kind is Kind.DATA]
    others = [node for node in staying if not facts.is_leader(node)]
    if len(data) < 3 or not others:
        return False
    return agent.propose(cmd.AskLeave(chaos.rng.choice(others), "chaos"))


def leader_leaves(chaos: Chaos) -> bool:
    """An operator removes the very member that leads, or the one that leads consensus."""
    agent, facts, leader = chaos.world.raft_leader(), chaos.world.facts(), chaos.leader()
    if agent is None or facts is None or leader is None:
        return False
    staying = [one for one in facts.members.values() if not one.leaving]
    if sum(one.kind is Kind.DATA for one in staying) < 3:
        return False
    node = chaos.rng.choice([leader.name, agent.node])
    return agent.propose(cmd.AskLeave(node, "chaos"))


def join_in_failover(chaos: Chaos) -> bool:
    """A host becomes a member while the term changes."""
    return bool(chaos.world.spares) and ordered_failover(chaos) and join(chaos)


def change_mode(chaos: Chaos) -> bool:
    """An operator changes the mode."""
    agent, facts = chaos.world.raft_leader(), chaos.world.facts()
    if agent is None or facts is None:
        return False
    new = Mode.STRICT if facts.mode is Mode.QUORUM else Mode.QUORUM
    return agent.propose(cmd.SetMode(new, facts.num_sync))


def hasty_operator(chaos: Chaos) -> bool:
    """A switchover is ordered, and a failover before that is done."""
    if not switchover(chaos):
        return False
    soon = chaos.rng.randrange(600) * MS
    chaos.world.clock.after(soon, chaos.unless_over, lambda: ordered_failover(chaos))
    return True


MOVING: dict[str, Strike] = {
    "voter.lost": lose_voter,
    "zone.lost": lose_zone,
    "disk.hung": hang_disk,
    "member.joins": join,
    "member.leaves": leave,
    "leader.leaves": leader_leaves,
    "member.joins.failover": join_in_failover,
    **modefaults.KINDS,
    **lonefaults.KINDS,
    **byhand.KINDS,
    **overridefaults.KINDS,
    **operators.KINDS,
}
"""Kinds that only some shapes have."""

FIRST_KINDS: dict[str, Strike] = {
    "primary.postmaster.killed": lambda c: kill_postmaster(c, c.leader()),
    "primary.node.crashed": lambda c: crash_node(c, c.leader()),
    "standby.postmaster.killed": lambda c: kill_postmaster(c, c.other()),
    "standby.node.crashed": lambda c: crash_node(c, c.other()),
    "agent.killed": lambda c: kill_agent(c, c.any_node()),
    "agent.paused": lambda c: pause_agent(c, c.any_node()),
    "node.paused": lambda c: pause_node(c, c.any_node()),
    "primary.node.paused": lambda c: pause_node(c, c.leader() or c.any_node()),
    "network.split": partition,
    "primary.isolated": isolate_leader,
    "network.one_way": one_way,
    "network.partial": partial_mesh,
    "network.flaps": flapping,
    "network.bad": bad_network,
    "network.slow": slow_link,
    "disk.slow": slow_disk,
    "replay.slow": slow_replay,
    "fsync.slow": slow_fsync,
    "data.lost": lose_data,
    "store.lost": lose_store,
    "wal.recycled": recycle,
    "wal.burst": burst,
    "server.hung": hang,
    "switchover": switchover,
    "failover": ordered_failover,
    "raft.leader.killed": kill_raft_leader,
    "all.crashed": crash_all,
    **ambushes.FIRST,
}
"""Those of the first storm: no kind is added or moved here, or kept seeds tell another story."""

KINDS: dict[str, Strike] = {
    **FIRST_KINDS,
    **ambushes.KINDS,
    **hostfaults.KINDS,
    **netfaults.KINDS,
    **serverfaults.KINDS,
    "mode.changed": change_mode,
    "operator.hasty": hasty_operator,
}
"""Those of all later storms."""
