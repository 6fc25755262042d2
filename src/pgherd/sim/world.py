"""The simulated world: nodes with host, disk, server and agent; clock, network, writers, checks."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

from pgherd.ledger.levels import LEVEL
from pgherd.model.facts import Facts, Kind, Member, Mode, Tags
from pgherd.model.ids import NodeId, RaftId
from pgherd.model.lease import DRIFT_PERCENT
from pgherd.model.observation import Observation
from pgherd.model.policy import Policy
from pgherd.model.promises import Promises
from pgherd.raft.types import Msg
from pgherd.sim import amnesia, feeding
from pgherd.sim.agent import Agent
from pgherd.sim.checks import Checks
from pgherd.sim.clients import Client
from pgherd.sim.clock import SECOND, Boottime, Clock
from pgherd.sim.commits import LATE_READ
from pgherd.sim.giving import FENCE_FAILS, ORDER, Fences
from pgherd.sim.herdchecks import HerdChecks
from pgherd.sim.leasechecks import LeaseChecks
from pgherd.sim.loans import Loans
from pgherd.sim.losses import Losses
from pgherd.sim.moves import address_of
from pgherd.sim.network import Network
from pgherd.sim.postgres import Server
from pgherd.sim.registers import Registers, Writer
from pgherd.sim.shapes import THREE, Shape
from pgherd.sim.warden import Warden
from pgherd.store.base import Identity
from pgherd.store.memory import MemoryDisk, MemoryStore
from pgherd.store.replica import give_birth

JOURNAL_LINES = 3000
REGISTER_WRITERS = 2
SUPERVISED_AFTER = SECOND
EVENTS_PER_SECOND_MAX = 10_000
"""Nine nodes have some 2000."""
VOTER_TIMEOUT_MS = 8000
"""Short, so that votes move while a storm lasts."""
HOLD_MS = 3000
MAX_LAG_BYTES = 2000
"""Twenty rows, so that mode async has to refuse now and then."""
PREFERRED = 200
DRIFT_PPM_MAX = DRIFT_PERCENT * 10_000 // 2
"""Two hosts that drift apart by this much each differ by what the protocol assumes."""


def kind_of(shape: Shape, place: int) -> Kind:
    return Kind.WITNESS if place >= shape.size - shape.witnesses else Kind.DATA


def tags_of(shape: Shape, place: int, *, zone: str) -> Tags:
    last = place >= shape.size - shape.witnesses - shape.nofailover
    priority = PREFERRED if place < shape.preferred else Tags().failover_priority
    tags = Tags(failover_priority=priority, nofailover=last and shape.nofailover > 0, zone=zone)
    return feeding.tags_of(shape, place, tags) if shape.cascading or shape.delayed else tags


def kind_of_spare(place: int) -> Kind:
    """Of the hosts that may join every third is a witness, the second one first."""
    return Kind.WITNESS if place % 3 == 1 else Kind.DATA


class Stats:
    """What a run has done."""

    def __init__(self) -> None:
        self.faults: dict[str, int] = {}
        self.proposals = 0
        self.votes_moved = 0
        self.joined = 0
        self.left = 0


class Node:
    """One host."""

    def __init__(self, world: World, name: NodeId, raft_id: RaftId, *, kind: Kind) -> None:
        self.world = world
        self.name = name
        self.raft_id = raft_id
        self.kind = kind
        self.disk = MemoryDisk()
        self.server = Server(world, name)
        self.boottime = Boottime(world.clock, parts_per_million=world.drift())
        self.warden = Warden(self)
        self.agent: Agent | None = None
        self.host_up = True
        self.boots = 0
        self.wall_wrong_ms = 0
        self.store_full = False
        self.told = Promises()
        self.asks = ""
        self.forgetful: amnesia.Forgetful | None = None
        self.lost = 0

    def boot(self) -> None:
        """Start the agent; the server is left as it is. Without its store it only asks."""
        if not self.host_up:
            self.boottime.restart()
        self.host_up = True
        if self.agent is not None:
            return
        if self.asks:
            amnesia.ask(self)
            return
        self.boots += 1
        if self.store_full:
            self.disk.fail_next("full")
        self.agent = Agent(self.world, self, boot=self.boots)
        self.world.checks.on_promises_read(self.name, self.told, self.agent.promises)

    def end_forgetful(self) -> None:
        """End the agent's process of a node without its store."""
        if self.forgetful is not None:
            self.forgetful.proc.kill()
            self.forgetful = None

    def kill_agent(self) -> None:
        """End the agent's process; what it was writing may or may not be on disk."""
        self.end_forgetful()
        agent = self.agent
        if agent is None:
            return
        self.told = agent.promises
        if self.world.rng.random() < 0.5:
            agent.writer.sync()
        agent.store.crash()
        agent.proc.kill()
        self.agent = None

    def store_failed(self) -> None:
        """The store took nothing more: the process ended with that reason and is started again."""
        self.world.log(self.name, "the store failed")
        self.kill_agent()
        self.world.clock.after(SUPERVISED_AFTER, self._started_again)

    def _started_again(self) -> None:
        if self.host_up:
            self.boot()

    def crash(self) -> None:
        """Everything on this host is gone at once, unsynced writes as well."""
        self.end_forgetful()
        agent = self.agent
        if agent is not None:
            self.told = agent.promises
            agent.store.crash()
            agent.proc.kill()
            self.agent = None
        self.server.crash(host=True)
        self.host_up = False


class World:
    """Everything of one run."""

    def __init__(
        self,
        seed: int,
        *,
        shape: Shape = THREE,
        policy: Policy | None = None,
        mode: Mode = Mode.QUORUM,
    ) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.clock = Clock()
        self.clock.events_per_second_max = EVENTS_PER_SECOND_MAX
        self.net = Network(self.clock, self.rng)
        self.shape = shape
        self.policy = policy or Policy(
            hold_ms=HOLD_MS,
            voter_timeout_ms=VOTER_TIMEOUT_MS,
            max_lag_bytes=MAX_LAG_BYTES,
            fence=ORDER if shape.fence else None,
        )
        self.fences = Fences(fails=0.0 if shape.fence else FENCE_FAILS)
        self.cluster = "sim"
        self.mode = mode
        self.stats = Stats()
        self.checks = Checks(self)
        self.leases = LeaseChecks(self)
        self.herd = HerdChecks(self)
        self.losses = Losses(self)
        self.loans = Loans(self)
        self.cascaded = 0
        self._drifts = Random(seed * 31 + 7)
        self.journal: deque[tuple[Any, ...]] = deque(maxlen=JOURNAL_LINES)
        self.verbose = False
        self.quiet = False
        self.restless = True
        self.asking = False
        self.rows = 0
        self.stale_chance = 0.02
        self.stale_until = 0
        self.watchers: list[Any] = []
        self.upgrades: dict[str, dict[NodeId, int]] = {}
        """What was to run where, by the work that was to bring it (`operators.upgrade`)."""
        self._incarnations = 0
        self.names = [NodeId(f"n{i + 1}") for i in range(shape.size)]
        self.nodes = {
            name: Node(self, name, RaftId(i + 1), kind=kind_of(shape, i))
            for i, name in enumerate(self.names)
        }
        self._by_raft_id = {node.raft_id: node for node in self.nodes.values()}
        self.spares = [
            Node(self, NodeId(f"n{shape.size + i + 1}"), RaftId(0), kind=kind_of_spare(i))
            for i in range(shape.spares)
        ]
        self.clients: list[Client] = []
        self.registers = Registers()
        self.register_writers = [Writer(self, number=i) for i in range(REGISTER_WRITERS)]

    def begin(self) -> None:
        """Write the founding members into every store and start every agent."""
        members = {
            node.name: Member(
                node=node.name,
                raft_id=node.raft_id,
                kind=node.kind,
                address=address_of(node.name),
                tags=tags_of(self.shape, place, zone=self.zone_of(node.name)),
                level=LEVEL,
            )
            for place, node in enumerate(self.nodes.values())
        }
        facts = Facts(
            cluster=self.cluster,
            members=members,
            next_raft_id=RaftId(len(members) + 1),
            mode=self.mode,
            max_voters=self.shape.max_voters,
            level=LEVEL,
        )
        for node in self.nodes.values():
            store = MemoryStore(node.disk)
            give_birth(store, facts, self._identity(node))
            store.close()
            node.boot()

    def _identity(self, node: Node) -> Identity:
        return Identity(
            cluster=self.cluster,
            node=node.name,
            raft_id=node.raft_id,
            store_incarnation=node.name,
        )

    def admit(self, node: Node, raft_id: RaftId) -> None:
        """A host was admitted: it gets its id, an empty store, and its agent."""
        node.raft_id = raft_id
        self.nodes[node.name] = self._by_raft_id[raft_id] = node
        self.names.append(node.name)
        store = MemoryStore(node.disk)
        store.set_identity(self._identity(node))
        store.sync()
        store.close()
        node.boot()
        self.stats.joined += 1

    @property
    def beats_release(self) -> bool:
        """Whether an answered keepalive releases commits; not while writers write in first storms.

        Those stay as they were (`docs/adr/0027-a-herd-lives-long.md`).
        """
        return self.quiet or not self.restless

    def zone_of(self, name: NodeId) -> str:
        """The zone that a node lies in; none where there is only one."""
        number = int(name[1:])
        return f"z{number % self.shape.zones}" if self.shape.zones > 1 else ""

    def add_clients(self, count: int, *, pause_ms: int) -> None:
        """Writers: every second one sits beside a node, the others outside."""
        for i in range(count):
            home = self.names[i % len(self.names)] if i % 2 else None
            self.clients.append(Client(self, home=home, pause_ms=pause_ms))

    def no_more_stale(self) -> None:
        """Processes read their configuration soon from now on; some have yet to."""
        if self.stale_chance:
            self.stale_until = self.clock.now + LATE_READ
        self.stale_chance = 0.0

    def write_slowly(self, pause_ms: int) -> None:
        """Let every writer wait so long between two writes."""
        for client in self.clients:
            client.pause_ms = pause_ms

    def write_again(self, *, pause_ms: int) -> None:
        """Writers that had stopped go on."""
        self.quiet = False
        self.write_slowly(pause_ms)
        for client in self.clients:
            client.begin()
        for writer in self.register_writers:
            writer.begin()

    # -- what the parts ask for ------------------------------------------------------------------

    def server(self, node: NodeId) -> Server:
        return self.nodes[node].server

    def promises(self, node: NodeId) -> Promises:
        """The promises of a node as its agent has them, or had them when it died."""
        agent = self.nodes[node].agent
        return agent.promises if agent is not None else self.nodes[node].told

    def facts(self) -> Facts | None:
        """The newest facts that any replica has applied."""
        return self.checks.newest

    def raft_leader(self) -> Agent | None:
        """The agent that leads consensus in the newest Raft term."""
        agents = [n.agent for n in self.nodes.values() if n.agent is not None]
        leading = [a for a in agents if a.replica.leads]
        return max(leading, key=lambda a: a.replica.node.term, default=None)

    def poke(self, node: NodeId) -> None:
        """Something on this node changed: its agent may look."""
        agent = self.nodes[node].agent
        if agent is not None:
            agent.poke()

    def drift(self) -> int:
        """How wrong the next host's clock runs, in parts per million: often as wrong as may be."""
        most = DRIFT_PPM_MAX
        return self._drifts.choice([-most, most, self._drifts.randint(-most, most)])

    def next_row(self) -> int:
        self.rows += 1
        return self.rows

    def new_incarnation(self) -> str:
        self._incarnations += 1
        return f"{self._incarnations:06x}"

    def renumbered(self, node: Node) -> None:
        """A node goes on under another Raft id."""
        self._by_raft_id = {one.raft_id: one for one in self.nodes.values()}

    def send_message(self, source: NodeId, message: Msg) -> None:
        node = self._by_raft_id.get(RaftId(message.to))
        if node is not None and node.agent is not None:
            agent = node.agent
            self.net.send(source, node.name, agent.on_message, message, proc=agent.proc)

    def send_report(self, source: NodeId, target: NodeId, report: Observation) -> None:
        agent = self.nodes[target].agent
        if agent is not None:
            self.net.send(source, target, agent.on_report, report, proc=agent.proc)

    def on_event(self, node: NodeId, event: object) -> None:
        """An act begins, a command is proposed, an epoch is written: faults may lie in wait."""
        self.fences.must_be_done(self, node, event)
        for watcher in self.watchers:
            watcher(node, event)

    def log(self, node: NodeId, *what: object) -> None:
        """Keep a line of the journal."""
        line = (self.clock.now, node, *what)
        self.journal.append(line)
        if self.verbose:
            print(render(line), flush=True)


def render(line: tuple[Any, ...]) -> str:
    """A line of the journal for people."""
    at, node, *what = line
    return f"{at / 1_000_000:9.4f} {node:4} " + " ".join(str(part) for part in what)
