"""Planted errors about servers that somebody else promoted (rules 73 to 75)."""

from __future__ import annotations

from contextlib import ExitStack

from pgherd.model import action as act
from pgherd.model.observation import Server as State
from pgherd.plan import byhand
from pgherd.plan.own import Answer, Self
from pgherd.sim import acts, look
from pgherd.sim.agent import Agent
from pgherd.sim.clock import Task
from pgherd.sim.mutants.kind import LOST, Mutant, plant_act
from pgherd.sim.planting import attribute
from pgherd.sim.plants import member_rule, without_member_rule

HANDS = ("promoted.by.hand", "promoted.by.hand.unseen")


def no_mark(stack: ExitStack) -> None:
    def disown(agent: Agent, a: act.Disown) -> Task:
        yield from acts.stop(agent)

    plant_act(stack, act.Disown, disown)


def not_found_out(stack: ExitStack) -> None:
    stack.enter_context(attribute(look, "strayed", lambda *_: None))
    state_not_read(stack)


def only_stopped(stack: ExitStack) -> None:
    """As it was before there was a mark: rules 34 and 51 stop it, and that is all."""

    def stops(s: Self) -> Answer | None:
        by_hand = s.server.state is State.PRIMARY and s.promises.adopted_leader != s.me
        return ("stops", act.StopServer(byhand.BY_SOMEBODY)) if by_hand else None

    member_rule(stack, 73, stops)
    not_found_out(stack)


def state_not_read(stack: ExitStack) -> None:
    without_member_rule(stack, 75)


ROWS: dict[str, Mutant] = {
    "by-hand-no-mark": Mutant(
        "What somebody else promoted is not marked before it is stopped.",
        no_mark,
        HANDS,
        ("L2", "I18", *LOST),
    ),
    "by-hand-only-stopped": Mutant(
        "What somebody else promoted is stopped, then started as it is.",
        only_stopped,
        (*HANDS, "plot.by.hand", "plot.by.hand"),
        ("I18", *LOST),
        count=4,
    ),
    "by-hand-unseen": Mutant(
        "What was promoted unseen is told neither by its timelines nor by pg_control.",
        not_found_out,
        ("plot.by.hand",),
        ("I18", *LOST),
        count=3,
    ),
    "by-hand-at-the-fork": Mutant(
        "What was promoted unseen, at the point where the winner was, is not told by pg_control.",
        state_not_read,
        ("plot.by.hand.at.fork",),
        ("I18", *LOST),
        count=3,
    ),
}
