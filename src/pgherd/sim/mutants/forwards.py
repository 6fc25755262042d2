"""Planted errors of a fast-forward: who takes WAL within an election, and how far (F4)."""

from __future__ import annotations

from contextlib import ExitStack

from msgspec.structs import replace

from pgherd.model import action as act
from pgherd.model.facts import Frozen
from pgherd.model.ids import MemberKey, Position, Term
from pgherd.plan import forward
from pgherd.plan.election import asked_for, may_win
from pgherd.plan.rule import Situation
from pgherd.sim import acts, look
from pgherd.sim.agent import Agent
from pgherd.sim.clock import Task
from pgherd.sim.mutants.kind import LOST, Mutant, plant_act
from pgherd.sim.planting import attribute
from pgherd.sim.postgres import Upstream
from pgherd.sim.shapes import LONE

HERD = replace(LONE, kinds=())
OFTEN = ("lone.holder", "lone.holder", "primary.isolated")


def sealed_all_along(stack: ExitStack) -> None:
    """Who catches up never says that it is not sealed meanwhile."""

    def fast_forward(agent: Agent, a: act.FastForward) -> Task:
        acts.must_be_sealed(agent, a.term)
        agent.server.follow(on_loan(agent, a))
        yield from acts.wait(lambda: is_there(agent, a), limit_ms=a.stall_ms)
        yield from acts.freeze(agent, a.term)

    plant_act(stack, act.FastForward, fast_forward)


def on_loan(agent: Agent, a: act.FastForward) -> Upstream:
    mine = MemberKey(agent.node, agent.promises.incarnation)
    return Upstream(a.holder.node, mine, Term(0), borrowed=True)


def is_there(agent: Agent, a: act.FastForward) -> bool:
    position = look.position_of(agent)
    return position is not None and position >= a.target


def claims_the_target(stack: ExitStack) -> None:
    """A candidate says that it is where it is about to be, and only then goes there."""

    def fast_forward(agent: Agent, a: act.FastForward) -> Task:
        acts.must_be_sealed(agent, a.term)
        yield from acts.save(agent, frozen=Frozen(a.term, a.target))
        agent.server.follow(on_loan(agent, a))

    plant_act(stack, act.FastForward, fast_forward)


def lends_on(stack: ExitStack) -> None:
    """A holder keeps the slot when it follows or leads again."""
    stack.enter_context(attribute(acts, "end_lending", lambda server, of=None: None))


def any_branch(stack: ExitStack) -> None:
    """A candidate takes WAL wherever its own may come from: of another branch, perhaps."""

    def may_catch_up(s: Situation, key: MemberKey, position: Position, target: Position) -> bool:
        behind = position < target and asked_for(s) in (None, key.node)
        return behind and may_win(s, key)

    stack.enter_context(attribute(forward, "may_catch_up", may_catch_up))


ROWS: dict[str, Mutant] = {
    "catches-up-sealed": Mutant(
        "Who catches up in an election still counts as sealed where it was.",
        sealed_all_along,
        OFTEN,
        ("I12",),
        shape=HERD,
        count=6,
    ),
    "claims-the-target": Mutant(
        "A candidate is counted at the target before it has taken what it lacks, and not sealed.",
        claims_the_target,
        OFTEN,
        (*LOST, "I12"),
        shape=HERD,
        count=6,
    ),
    "lends-on": Mutant(
        "A holder that follows or leads again goes on feeding who caught up from it.",
        lends_on,
        ("plot.borrower.dies", "plot.borrower.dies", "lone.holder"),
        (*LOST, "I12", "I18"),
        shape=replace(HERD, size=4),
        count=8,
    ),
    "catches-up-off-the-branch": Mutant(
        "A candidate catches up wherever its own WAL may come from: on another branch, perhaps.",
        any_branch,
        ("ambush.promote", "ambush.promote", "plot.winner.cut", "lone.holder", "wal.burst"),
        (*LOST, "I12", "I18"),
        shape=HERD,
        count=16,
    ),
}
