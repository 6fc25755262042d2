"""Planted errors of promises and seals (PROTOCOL.md F1, F2, F9)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from msgspec.structs import replace

from pgherd.model import action as act
from pgherd.model.facts import Frozen, Phase
from pgherd.model.ids import Lsn, MemberKey, Position, Term
from pgherd.model.observation import Observation, Server
from pgherd.plan import election
from pgherd.plan.look import fresh
from pgherd.plan.look import sealed as sealed_members
from pgherd.plan.own import Answer, Self, elects, leads
from pgherd.plan.rule import Situation
from pgherd.plan.sealing import is_frozen
from pgherd.sim import acts, look
from pgherd.sim.agent import Agent
from pgherd.sim.clock import SECOND, Failed, Task
from pgherd.sim.mutants.kind import DEATHS, LOST, MISCOUNTED, Mutant, plant_act
from pgherd.sim.planting import attribute
from pgherd.sim.plants import before_member_rule, member_rule, without_member_rule

NOWHERE = Position(Term(0), Lsn(0))
UNSEAL_AFTER = 2 * SECOND


def no_seal(stack: ExitStack) -> None:
    def seal(agent: Agent, a: act.Seal) -> Task:
        yield from acts.promise(agent, a.term, a.elector)
        position = look.position_of(agent)
        if position is None:
            raise Failed("no position")
        yield from acts.save(agent, frozen=Frozen(a.term, position))

    plant_act(stack, act.Seal, seal)


def no_promise_fsync(stack: ExitStack) -> None:
    def save(agent: Agent, **changes: Any) -> Task:
        new = replace(agent.promises, **changes)
        agent.writer.save({"promises": new}, lambda: None)
        agent.take_promises(new)
        yield 0

    stack.enter_context(attribute(acts, "save", save))


def drain_not_waited_for(stack: ExitStack) -> None:
    def seal(agent: Agent, a: act.Seal) -> Task:
        yield from acts.promise(agent, a.term, a.elector)
        server = agent.server
        server.follow(None)
        yield from acts.wait(lambda: server.receiver is None, limit_ms=100)
        server.terminate_receiver()
        yield from acts.wait(lambda: server.receiver is None, limit_ms=200)
        position = look.position_of(agent)
        acts.must(server.receiver is None and position is not None, "still receives")
        assert position is not None
        yield from acts.save(agent, frozen=Frozen(a.term, position))

    plant_act(stack, act.Seal, seal)


def unsealed_by_timer(stack: ExitStack) -> None:
    """Whoever waits for long for a winner goes on streaming from the leader that it had."""

    def seal(agent: Agent, a: act.Seal) -> Task:
        before, elsewhere = agent.server.upstream, agent.clock.now
        yield from acts.seal(agent, a)
        if before is not None:
            at = elsewhere + UNSEAL_AFTER - agent.clock.now
            agent.clock.after(max(1, at), unseal, agent, a.term, before, proc=agent.proc)

    def unseal(agent: Agent, term: Term, before: Any) -> None:
        facts = agent.replica.facts
        if facts.term == term and facts.phase is Phase.ELECTING:
            agent.server.follow(before)

    plant_act(stack, act.Seal, seal)


def seals(s: Situation, counts: Callable[[Observation], bool]) -> dict[MemberKey, Position]:
    """Members whose report counts as a seal, with what they say; nowhere if nothing."""
    found = {}
    for node, member in sorted(s.facts.members.items()):
        report = fresh(s, node)
        if report is not None and member.incarnation and counts(report):
            frozen = report.promises.frozen
            found[member.key] = frozen.position if frozen is not None else NOWHERE
    return found


def old_seals_count(stack: ExitStack) -> None:
    """The elector takes what was sealed for the one before it."""

    def sealed(s: Situation) -> dict[MemberKey, Position]:
        old = seals(s, lambda report: was_sealed(s, report))
        return old | right(s)

    def was_sealed(s: Situation, report: Observation) -> bool:
        frozen, mine = report.promises.frozen, report.promises
        known = s.facts.members[report.node].incarnation
        return frozen is not None and mine.incarnation == known and not mine.dirty_rewind

    right = sealed_members
    stack.enter_context(attribute(election, "sealed", sealed))


def seal_of(states: tuple[Server, ...]) -> Callable[[ExitStack], None]:
    """Members in these states are taken for sealed as soon as they promised: with nothing."""

    def install(stack: ExitStack) -> None:
        def promised(s: Self) -> Answer | None:
            if not elects(s) or s.server.state not in states or s.facts.elector is None:
                return None
            if s.promises.promise == s.facts.term and is_frozen(s):
                return None
            return "seals as it is", act.Seal(term=s.facts.term, elector=s.facts.elector)

        def seal(agent: Agent, a: act.Seal) -> Task:
            if agent.server.state not in states:
                yield from acts.seal(agent, a)
                return
            yield from acts.promise(agent, a.term, a.elector)
            yield from acts.save(agent, frozen=Frozen(a.term, NOWHERE))

        def sealed(s: Situation) -> dict[MemberKey, Position]:
            return seals(s, lambda report: as_nothing(s, report)) | right(s)

        def as_nothing(s: Situation, report: Observation) -> bool:
            frozen = report.promises.frozen
            return frozen == Frozen(s.facts.term, NOWHERE) and report.server.state in states

        right = sealed_members
        before_member_rule(stack, 15, promised)
        plant_act(stack, act.Seal, seal)
        stack.enter_context(attribute(election, "sealed", sealed))

    return install


def promise_not_checked(stack: ExitStack) -> None:
    """Neither before the act nor in it; the ledger of a restarted agent may be behind."""

    def becomes_primary(s: Self) -> Answer | None:
        if not leads(s) or s.server.state is not Server.STANDBY or s.server.position is None:
            return None
        if s.facts.phase is Phase.STABLE or not s.server.drained:
            return None
        start = s.facts.history[-1].start
        return "becomes primary", act.Promote(term=s.facts.term, expected=start)

    def promote(agent: Agent, a: act.Promote) -> Task:
        server = agent.server
        yield from acts.save(agent, adopted=a.term, adopted_leader=agent.node)
        server.promote()
        yield from acts.wait(lambda: server.primary or server.proc is None, limit_ms=10_000)
        acts.must(server.primary, "promotion took too long")
        yield from acts.write_epoch(agent, a.term)

    without_member_rule(stack, 14)
    without_member_rule(stack, 16)
    member_rule(stack, 42, becomes_primary)
    plant_act(stack, act.Promote, promote)


ROWS: dict[str, Mutant] = {
    "no-seal": Mutant(
        "A seal answers with its position and goes on receiving.",
        no_seal,
        ("primary.node.paused", "failover", "agent.paused", "network.partial"),
        (*LOST, "I12"),
    ),
    "no-promise-fsync": Mutant(
        "A promise counts before it is durable.",
        no_promise_fsync,
        ("plot.promise", "failover", "primary.node.crashed"),
        (*LOST, "I11", "I12", "I13"),
    ),
    "drain-not-waited-for": Mutant(
        "A seal freezes what is replayed, not what is there.",
        drain_not_waited_for,
        ("plot.behind.replay", "replay.slow"),
        LOST,
        count=6,
    ),
    "unsealed-by-timer": Mutant(
        "Who waits for two seconds for a winner streams from its old leader again.",
        unsealed_by_timer,
        ("plot.behind.data", "primary.isolated", "failover", "agent.paused"),
        (*LOST, "I12"),
    ),
    "old-seals-count": Mutant(
        "An elector counts what was sealed for the one before it.",
        old_seals_count,
        (*DEATHS, "raft.leader.killed", "plot.winner.cut", "plot.behind", "network.slow"),
        MISCOUNTED,
        count=16,
    ),
    "unknown-position-counts": Mutant(
        "A standby that is starting, whose position is unknown, is sealed with nothing.",
        seal_of((Server.STOPPED, Server.STARTING)),
        ("plot.behind.crash",),
        MISCOUNTED,
        count=6,
    ),
    "rebuilt-keeps-its-vote": Mutant(
        "A voter whose data is gone counts under its old name, before and after its rebuild.",
        seal_of((Server.NONE,)),
        ("plot.behind.data",),
        MISCOUNTED,
        count=6,
    ),
    "promise-not-checked": Mutant(
        "A winner promotes although it has promised a later term.",
        promise_not_checked,
        ("ambush.promote", *DEATHS, "plot.winner.restarts"),
        (*LOST, "I11", "I12"),
        count=16,
    ),
}
