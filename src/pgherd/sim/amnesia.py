"""A simulated node that loses its Raft store: it asks, is given a new place, and begins anew.

The twin of daemon.amnesia, with the ledger's own rules for what may be promised again. Which
configuration a server's files name is in `Server.upstream`, which outlives its process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.ledger.readmission import first_promises, place_of
from pgherd.model.facts import Facts, Member
from pgherd.model.ids import MemberKey, NodeId, RaftId
from pgherd.model.observation import Asking
from pgherd.model.promises import Promises
from pgherd.sim.clock import MS
from pgherd.store.base import Identity
from pgherd.store.memory import MemoryDisk, MemoryStore

if TYPE_CHECKING:
    from pgherd.sim.world import Node

ASK_EVERY = 500 * MS


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
    if leader is not None and not leader.proc.paused and reaches(node, leader.node):
        member = leader.replica.facts.members[node.name]
        if member.store == node.asks:
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
    place = place_of(facts, member)
    promises = Promises(promise=place.term)
    if directory is not None:
        written = node.server.upstream
        promises = first_promises(
            place,
            MemberKey(node.name, directory.incarnation),
            followed=(written.key, written.term) if written is not None else None,
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
