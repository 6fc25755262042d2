"""I17: leases of two holders never overlap, and one is over for its holder before it expires.
I16, as far as agents and wardens can keep it: who writes alone has its lease.

Evaluated on true time, which no agent knows: whenever a holder applies a renewal, and whenever the
end of a lease takes effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.model.ids import NodeId, Term
from pgherd.model.lease import Lease
from pgherd.sim.clock import SECOND
from pgherd.store.replica import Applied

if TYPE_CHECKING:
    from pgherd.sim.agent import Agent
    from pgherd.sim.world import World


CLOSES_WITHIN = SECOND
"""How long closing the names, or ending the server, may take."""


class Held(msgspec.Struct, frozen=True):
    """What a holder counts on. until: true time; boots: of the host whose clock it counts by."""

    lease: Lease
    until: int
    boots: int


class LeaseChecks:
    """The invariant of one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.held: dict[NodeId, Held] = {}
        self.latest: dict[NodeId, Held] = {}
        self.expired_at = 0

    def on_facts(self, node: NodeId) -> None:
        """A replica has applied something: its agent may count on a lease from now on."""
        agent = self.world.nodes[node].agent
        held = self._held_by(agent)
        if agent is None or held is None or held == self.held.get(node):
            return
        self.held[node] = held
        known = self.latest.get(node)
        if known is None or known.boots != held.boots or known.until < held.until:
            self.latest[node] = held
        self.world.checks.evaluated += 1
        self._must_end_first(agent, held)
        if held.until > self.world.clock.now and held.lease.former is None:
            self._must_be_alone(agent, held)

    def _held_by(self, agent: Agent | None) -> Held | None:
        """The lease that an agent counts on by what it knows, even if it is paused now."""
        deadline = agent.lease_deadline() if agent is not None else None
        lease = agent.replica.facts.lease if agent is not None else None
        if agent is None or deadline is None or lease is None:
            return None
        return Held(lease, agent.boottime.true(deadline), agent.boottime.boots)

    def _must_end_first(self, holder: Agent, held: Held) -> None:
        """No Raft leader lets a lease expire while its holder counts on it."""
        for node in self.world.nodes.values():
            agent = node.agent
            end = agent.expiry.expires_at(held.lease) if agent is not None else None
            if agent is not None and end is not None and agent.boottime.true(end) < held.until:
                text = f"{agent.node} ends {held.lease.mark} of {holder.node} before its holder"
                self.world.checks.fail("I17", text)

    def _must_be_alone(self, agent: Agent, held: Held) -> None:
        for node in self.world.nodes.values():
            other = self._held_by(node.agent)
            if node.name == agent.node or other is None or other.lease.former is not None:
                continue
            if other.until > self.world.clock.now:
                text = f"{agent.node} and {node.name} hold {held.lease} and {other.lease} at once"
                self.world.checks.fail("I17", text)

    def on_applied(self, applied: Applied) -> None:
        """The end of a lease takes effect, seen once, where it is applied first."""
        command = applied.proposal.command
        if not isinstance(command, cmd.ExpireLease) or applied.index <= self.expired_at:
            return
        self.expired_at = applied.index
        if isinstance(applied.outcome, cmd.Refused):
            return
        self.world.checks.evaluated += 1
        for node, held in self.held.items():
            if held.lease.id == command.id and self._counts(node, held):
                text = f"lease {command.id} expires while {node} counts on it: {command.reason}"
                self.world.checks.fail("I17", text)

    def _counts(self, node: NodeId, held: Held) -> bool:
        """Whether a holder still counts on what it had: not after a reboot or a later promise."""
        host = self.world.nodes[node]
        began = self._term(node) > held.lease.term
        promised = self.world.promises(node).promise > held.lease.term
        same = host.boottime.boots == held.boots
        return same and not began and not promised and held.until > self.world.clock.now

    def on_ack_alone(self, node: NodeId) -> None:
        """I16: nobody acknowledges anything alone for long without a lease, agent or no agent.

        A server that stood still, with its host, has not been ended yet when it goes on. What an
        agent knew when it died its warden knows still.
        """
        host, held = self.world.nodes[node], self.latest.get(node)
        if held is None:
            return
        ended = max(held.until, host.server.awake_since) + CLOSES_WITHIN
        if held.boots == host.boottime.boots and self.world.clock.now > ended:
            self.world.checks.fail("I16", f"{node} acknowledges alone, its lease ran out")

    def _term(self, node: NodeId) -> Term:
        agent = self.world.nodes[node].agent
        return agent.replica.facts.term if agent is not None else Term(0)
