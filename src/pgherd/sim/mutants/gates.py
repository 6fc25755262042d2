"""Planted errors of the gate: when a server may acknowledge anything at all (PROTOCOL.md 3, F6)."""

from __future__ import annotations

from contextlib import ExitStack

from pgherd.model import action as act
from pgherd.model.facts import Phase
from pgherd.model.ids import Term
from pgherd.model.observation import Server as State
from pgherd.plan import suspicion
from pgherd.plan.rule import Decision, Situation
from pgherd.sim import acts
from pgherd.sim.agent import Agent
from pgherd.sim.clock import MS, Task
from pgherd.sim.mutants.kind import DEATHS, Mutant, plant_act
from pgherd.sim.names import CLOSED, Names
from pgherd.sim.planting import attribute
from pgherd.sim.plants import herd_rule
from pgherd.sim.postgres import Server

OPEN = Names("")


def open_gate(stack: ExitStack) -> None:
    def promote(agent: Agent, a: act.Promote) -> Task:
        for delay in acts.promote(agent, a):
            if agent.server.primary and agent.server.names.closed:
                open_now(agent, a.term)
            yield delay

    plant_act(stack, act.Promote, promote)


def open_now(agent: Agent, term: Term) -> None:
    sync = agent.replica.facts.sync
    listed = ", ".join(f'"{key.token(term)}"' for key in sync.voters)
    text = f"ANY {sync.k} ({listed})" if sync.k else ""
    agent.server.reload_names(Names(text, term=term))


def names_at_promotion(stack: ExitStack) -> None:
    """Standbys run with empty names: those of a winner are closed when it is promoted."""

    def start(server: Server, names: Names) -> None:
        right(server, OPEN)

    def promote(agent: Agent, a: act.Promote) -> Task:
        agent.server.reload_names(CLOSED)
        yield from acts.promote(agent, a)

    right = Server.start_commits
    stack.enter_context(attribute(Server, "start_commits", start))
    plant_act(stack, act.Promote, promote)


def emptied_names(stack: ExitStack) -> None:
    def close(agent: Agent, a: act.CloseGate) -> Task:
        yield from acts.promise(agent, a.term, a.elector)
        acts.must(agent.server.primary, "no primary")
        agent.server.reload_names(OPEN)
        yield 50 * MS
        yield from acts.close_gate(agent, a)

    plant_act(stack, act.CloseGate, close)


def restarted_in_place(stack: ExitStack) -> None:
    """As a service manager would do it: the server that died is a primary again, and open."""

    def reported_dead(s: Situation) -> Decision | None:
        return None if s.facts.phase is Phase.STABLE else suspicion.reported_dead(s)

    def start(agent: Agent, a: act.StartStandby) -> Task:
        yield from acts.start_standby(agent, a)
        facts, server = agent.replica.facts, agent.server
        if facts.phase is not Phase.STABLE or not facts.is_leader(agent.node):
            return
        acts.must(server.state is State.STANDBY, "did not start")
        server.reload_names(Names("", term=facts.term))
        server.promote()
        yield from acts.wait(lambda: server.primary or server.proc is None, limit_ms=5_000)

    herd_rule(stack, 202, reported_dead)
    plant_act(stack, act.StartStandby, start)


ROWS: dict[str, Mutant] = {
    "open-gate": Mutant(
        "The gate opens at the promotion, not after STABLE.",
        open_gate,
        DEATHS,
        ("I9", "I16", "I19"),
    ),
    "names-at-promotion": Mutant(
        "The names are empty until a promotion sets them.",
        names_at_promotion,
        DEATHS,
        ("I9", "I19", "I10"),
        stale=0.3,
    ),
    "emptied-names": Mutant(
        "A gate is closed through empty names.",
        emptied_names,
        ("agent.paused", "failover", "network.partial", "primary.isolated"),
        ("I9", "I10", "I16", "I19"),
    ),
    "restarted-in-place": Mutant(
        "A primary that died is started in its own term, as a primary, and open.",
        restarted_in_place,
        ("primary.postmaster.killed", "primary.node.crashed"),
        ("I10", "I19"),
    ),
}
