"""Planted errors of leases (PROTOCOL.md 8, 9)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from msgspec.structs import replace

from pgherd.ledger import apply, leases
from pgherd.ledger import commands as cmd
from pgherd.model.facts import Facts, Mode
from pgherd.model.ids import Instant, MemberKey, Term
from pgherd.model.lease import Ask, held_ms
from pgherd.plan.leaseclock import ExpiryClock, HolderClock, running
from pgherd.plan.rule import Decision
from pgherd.sim import agent as agents
from pgherd.sim.agent import Agent
from pgherd.sim.mutants.kind import Mutant
from pgherd.sim.planting import attribute, item
from pgherd.sim.plants import without_member_rule
from pgherd.sim.shapes import Shape


def lease_from_commit(stack: ExitStack) -> None:
    class FromCommit(HolderClock):
        """Counts a renewal from when it is known, not from when it was asked for."""

        read, known = Instant(0), dict[tuple[int, int], Instant]()

        def ask(self, now: Instant) -> Ask:
            self.read = now
            return super().ask(now)

        def deadline(self, facts: Facts, *, me: MemberKey, promise: Term) -> Instant | None:
            asked = super().deadline(facts, me=me, promise=promise)
            if asked is None or facts.lease is None:
                return asked
            since = self.known.setdefault(facts.lease.mark, self.read)
            return Instant(since + held_ms(facts.lease.ttl_ms))

    stack.enter_context(attribute(agents, "HolderClock", FromCommit))


def lease_not_extended(stack: ExitStack) -> None:
    class FromGrant(ExpiryClock):
        """Who comes to lead counts from the grant: of renewals it knows no time."""

        def __init__(self) -> None:
            super().__init__()
            self._first: dict[int, Instant] = {}

        def follow(self, facts: Facts, *, raft_term: int, now: Instant) -> None:
            is_new = raft_term not in (0, self._raft_term)
            super().follow(facts, raft_term=raft_term, now=now)
            for lease in running(facts):
                first = self._first.setdefault(lease.id, now)
                if is_new:
                    self._since[lease.mark] = first

    stack.enter_context(attribute(agents, "ExpiryClock", FromGrant))


def expiry_forwarded(stack: ExitStack) -> None:
    """M16: who led once has the end of a lease proposed by who leads now (etcd 12528, 15247)."""

    def expire(facts: Facts, c: cmd.ExpireLease, at_ms: int) -> Any:
        lease = facts.lease
        if lease is not None and lease.id == c.id:
            c = replace(c, renew_seq=lease.renew_seq)
        return apply.expire_lease(facts, c, at_ms)

    def carry_out(agent: Agent, decision: Decision, now: Instant) -> None:
        leader = agent.world.raft_leader()
        if isinstance(decision.command, cmd.ExpireLease) and leader is not None:
            leader.propose(decision.command)
        else:
            honest(agent, decision, now)

    honest = Agent._carry_out
    stack.enter_context(item(apply.HANDLERS, cmd.ExpireLease, expire))
    stack.enter_context(attribute(Agent, "_carry_out", carry_out))


def former_forgotten(stack: ExitStack) -> None:
    stack.enter_context(attribute(leases, "still_held", lambda old, other_than: None))


def writes_on_alone(stack: ExitStack) -> None:
    without_member_rule(stack, 71)


def writes_on_forgotten(stack: ExitStack) -> None:
    without_member_rule(stack, 19)


ROWS: dict[str, Mutant] = {
    "lease-from-commit": Mutant(
        "A holder counts its lease from the commit of the renewal.",
        lease_from_commit,
        ("network.bad", "network.slow", "disk.slow", "agent.paused", "network.flaps"),
        ("I17",),
        count=24,
    ),
    "lease-not-extended": Mutant(
        "A new Raft leader does not give leases their whole time again.",
        lease_not_extended,
        ("raft.leader.killed", "agent.paused"),
        ("I17",),
    ),
    "expiry-forwarded": Mutant(
        "A deposed Raft leader ends a lease through its successor, renewed or not.",
        expiry_forwarded,
        ("agent.paused",),
        ("I17",),
        count=16,
    ),
    "writes-on-alone": Mutant(
        "A primary without voters acknowledges on when its lease has run out.",
        writes_on_alone,
        ("plot.alone",),
        ("I16",),
        count=2,
        stale=0.0,
    ),
    "writes-on-forgotten": Mutant(
        "A primary without voters acknowledges on although its agent has lost its Raft store.",
        writes_on_forgotten,
        ("store.lost", "primary.isolated"),
        ("I8",),
        shape=Shape(mode=Mode.ASYNC),
    ),
    "former-forgotten": Mutant(
        "A winner's lease is sole although the old primary still counts on its own.",
        former_forgotten,
        ("primary.isolated", "primary.node.paused"),
        ("I17",),
    ),
}
