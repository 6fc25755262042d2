"""Planted errors of fencing commands and of what an operator gives up (rules 39 and 308)."""

from __future__ import annotations

from contextlib import ExitStack

from msgspec.structs import replace

from pgherd.ledger import commands as cmd
from pgherd.model import action as act
from pgherd.model.ids import MemberKey
from pgherd.plan import election, giving
from pgherd.plan.look import sealed
from pgherd.plan.rule import Decision, Situation
from pgherd.sim.agent import Agent
from pgherd.sim.clock import Failed, Task
from pgherd.sim.giving import fence
from pgherd.sim.mutants.kind import LOST, Mutant, plant_act
from pgherd.sim.planting import attribute
from pgherd.sim.plants import herd_rule, without_member_rule
from pgherd.sim.shapes import FENCED

FENCING = ("fence.fails", "fence.hangs", "primary.isolated", "primary.node.paused")
GIVING = ("given.up", "given.up", "primary.isolated")


def failure_goes_on(stack: ExitStack) -> None:
    """The ledger is told that nobody has to wait, though the command is required."""

    def goes_on(agent: Agent, a: act.Fence) -> Task:
        try:
            yield from fence(agent, a)
        except Failed:
            leader = agent.world.raft_leader()
            if leader is None:
                raise
            leader.propose(
                cmd.Fenced(a.term, agent.node, a.target, done=False, go_on=True, text="planted")
            )

    plant_act(stack, act.Fence, goes_on)


def not_fenced(stack: ExitStack) -> None:
    without_member_rule(stack, 39)


def only_the_last(stack: ExitStack) -> None:
    def unsealed(s: Situation, winner: MemberKey) -> tuple[MemberKey, ...]:
        led = {s.facts.leader} - {None, winner, *sealed(s)}
        return tuple(key for key in led if key is not None)

    stack.enter_context(attribute(election, "unsealed", unsealed))


def not_recorded(stack: ExitStack) -> None:
    """The election goes on in spite of the loss, and its record does not say so."""

    def in_spite_of_loss(s: Situation) -> Decision | None:
        found = giving.in_spite_of_loss(s)
        if found is None or not isinstance(found.command, cmd.Elect):
            return found
        return replace(found, command=replace(found.command, lost=()))

    herd_rule(stack, 308, in_spite_of_loss)


ROWS: dict[str, Mutant] = {
    "fence-failure-goes-on": Mutant(
        "A required fencing command fails, and the winner is promoted all the same.",
        failure_goes_on,
        FENCING,
        ("P1",),
        FENCED,
    ),
    "not-fenced": Mutant(
        "A winner promotes without running the fencing command.",
        not_fenced,
        FENCING,
        ("P1",),
        FENCED,
    ),
    "fence-not-carried": Mutant(
        "An election forgets whom the winner before it had still to fence.",
        only_the_last,
        (*FENCING, "agent.paused", "plot.fence.dies"),
        ("P2",),
        FENCED,
    ),
    "loss-not-recorded": Mutant(
        "An operator's override elects, and the record does not say what was given up.",
        not_recorded,
        GIVING,
        ("I14", *LOST, "I20"),
        FENCED,
        count=4,
    ),
}
