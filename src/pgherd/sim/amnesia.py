"""A simulated node that loses its Raft store: it asks, is given a new place, and begins anew.

The twin of daemon.amnesia, with the ledger's own rules for what may be promised again. Which
configuration a server's files name is in `Server.upstream`, which outlives its process. What the
agent without a store does to its server meanwhile is the member decider's word, as in the daemon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pgherd.ledger.readmission import first_promises, place_of
from pgherd.model.facts import Facts, Member
from pgherd.model.ids import Instant, MemberKey, NodeId, RaftId, Term
from pgherd.model.observation import Asking
from pgherd.model.promises import Promises
from pgherd.plan import member as decider
from pgherd.sim import acts
from pgherd.sim.clock import MS, Failed, Proc
from pgherd.sim.look import see_server
from pgherd.sim.memory import Memory
from pgherd.store.base import Identity
from pgherd.store.memory import MemoryDisk, MemoryStore

if TYPE_CHECKING:
    from pgherd.sim.postgres import Server
    from pgherd.sim.wal import Directory
    from pgherd.sim.world import Node

ASK_EVERY = 500 * MS
LOOK_EVERY = 200 * MS


class Blank(NamedTuple):
    """A ledger of which nothing is known."""

    facts: Facts


class Forgetful:
    """The agent's process while there is no store: it sees its server, decides and acts.

    Draws no random number unless it acts: most herds that forget go on as they ever did.
    """

    def __init__(self, node: Node) -> None:
        self.world, self.clock, self.node = node.world, node.world.clock, node.name
        self.server, self.boottime = node.server, node.boottime
        self.proc = Proc(f"{node.name} agent without a store")
        self.awake_since = self.clock.now
        self.promises, self.replica, self.memory = (
            Promises(),
            Blank(Facts(node.world.cluster)),
            Memory(),
        )
        self.acting = False
        self._look()

    @property
    def now(self) -> Instant:
        """What this host's clock shows."""
        return self.boottime.ms

    def _look(self) -> None:
        self.clock.after(LOOK_EVERY, self._look, proc=self.proc)
        if self.acting:
            return
        planned = decider.decide(
            decider.Self(
                me=self.node,
                facts=self.replica.facts,
                server=see_server(self),
                promises=self.promises,
                policy=self.world.policy,
                now=self.now,
                caught_up=False,
                amnesia="its store is lost",
            )
        )
        if planned.action is None:
            return
        self.acting = True
        self.world.log(self.node, "member", planned.rule, planned.reason)
        self.world.log(self.node, "does", type(planned.action).__name__)
        task = acts.ACTS[type(planned.action)](self, planned.action)  # type: ignore[arg-type] # what it may do needs no more of an agent
        self.clock.spawn(self.proc, task, self._acted)

    def _acted(self, why: Failed | None) -> None:
        self.acting = False
        if why is not None:
            self.world.log(self.node, "failed:", why)


def forget(node: Node) -> None:
    """The node's store is lost; whatever runs there of the agent ends with it."""
    world = node.world
    node.kill_agent()
    node.lost += 1
    node.asks = f"{node.name}.{node.lost}"
    world.log(node.name, "has amnesia")


def ask(node: Node) -> None:
    """Ask the Raft leader, if it can be reached, and again until there is a place."""
    world, leader = node.world, node.world.raft_leader()
    if not node.asks or not node.host_up:
        return
    if node.forgetful is None:
        node.forgetful = Forgetful(node)
    if leader is not None and not leader.proc.paused and reaches(node, leader.node):
        member = leader.replica.facts.members.get(node.name)
        if member is None:
            return  # it was removed while it had no memory, and nobody answers it
        if member.store == node.asks and not node.forgetful.acting:
            begin_anew(node, leader.replica.facts, member)
            return
        leader.asked(node.name, Asking(node.asks, node.raft_id))
    world.clock.after(ASK_EVERY, ask, node)


def reaches(node: Node, other: NodeId) -> bool:
    net = node.world.net
    return not net.blocked(node.name, other) and not net.blocked(other, node.name)


def begin_anew(node: Node, facts: Facts, member: Member) -> None:
    """Take the new place: another name for the copy, a new store, a new agent."""
    world, directory = node.world, node.server.dir
    node.end_forgetful()
    place = place_of(facts, member)
    promises = Promises(promise=place.term)
    if directory is not None:
        promises = first_promises(
            place,
            MemberKey(node.name, directory.incarnation),
            followed=streamed(node.server) if is_whole(directory) else None,
            anew=world.new_incarnation(),
        )
        directory.incarnation = promises.incarnation
    node.raft_id, node.disk = RaftId(member.raft_id), MemoryDisk()
    store = MemoryStore(node.disk)
    store.save(
        identity=Identity(world.cluster, node.name, node.raft_id, node.asks), promises=promises
    )
    store.close()
    node.asks, node.told = "", promises
    world.renumbered(node)
    world.log(node.name, "is re-admitted", promises)
    node.boot()


def is_whole(directory: Directory) -> bool:
    """Whether what a rewind made of it has been replayed to its end (postgres.datadir)."""
    return directory.needs <= directory.flushed


def streamed(server: Server) -> tuple[MemberKey, Term] | None:
    """Under which name and term its files have it stream."""
    written = server.upstream
    return (written.key, written.term) if written is not None else None
