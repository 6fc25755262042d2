"""Hosts that become members and members that leave, as `pgherd join` and `remove-node` do it.

Owns the newcomer's way from an idle host to a running agent, and how a node learns that it was
removed: by asking its peers, as `daemon.standing` does. The steps between are the deciders'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model.facts import Address, Tags
from pgherd.model.ids import NodeId, RaftId
from pgherd.sim.clock import MS, SECOND

if TYPE_CHECKING:
    from pgherd.sim.agent import Agent
    from pgherd.sim.world import Node, World

ASK_AGAIN = 500 * MS
LEADERLESS = 2 * SECOND


def address_of(node: NodeId) -> Address:
    return Address(host=node, raft_port=1, postgres_port=2)


def invite(world: World, node: Node) -> None:
    """Ask for admission until the ledger has it, then start the node under its Raft id."""
    facts = world.facts()
    member = facts.members.get(node.name) if facts is not None else None
    if member is not None:
        world.admit(node, member.raft_id)
        return
    agent = world.raft_leader()
    if agent is not None:
        tags = Tags(zone=world.zone_of(node.name))
        agent.propose(cmd.AddMember(node.name, node.kind, address_of(node.name), tags, level=LEVEL))
    world.clock.after(ASK_AGAIN, invite, world, node)


class Standing:
    """One agent's doubt whether its node still belongs to the herd."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._led_at = -LEADERLESS
        agent.clock.after(ASK_AGAIN, self._look, proc=agent.proc)

    def _look(self) -> None:
        """Ask at the start, and whenever nobody has led this node for a while."""
        agent, world = self._agent, self._agent.world
        if agent.removed:
            return
        if agent.replica.is_led():
            self._led_at = agent.clock.now
        elif agent.clock.now - self._led_at >= LEADERLESS:
            for peer in world.names:
                other = world.nodes[peer].agent
                if peer != agent.node and other is not None:
                    world.net.send(agent.node, peer, self._asked, other, proc=other.proc)
        agent.clock.after(ASK_AGAIN, self._look, proc=agent.proc)

    def _asked(self, other: Agent) -> None:
        """On the peer: who knows of the id and has no member under it says so."""
        agent = self._agent
        if other.replica.facts.was_removed(RaftId(agent.raft_id)):
            agent.world.net.send(other.node, agent.node, agent.was_removed, proc=agent.proc)
