"""Planted errors of fencing: who was to be cut off before a promotion (docs/adr/0030)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from msgspec.structs import replace

from pgherd.ledger import apply, fencing
from pgherd.ledger import commands as cmd
from pgherd.model.facts import Facts
from pgherd.model.ids import MemberKey
from pgherd.plan import election
from pgherd.plan.leading import FENCES
from pgherd.plan.look import sealed
from pgherd.plan.rule import Situation
from pgherd.sim.mutants.kind import Mutant
from pgherd.sim.planting import attribute, item
from pgherd.sim.plants import without_member_rule

CUTS = ("primary.isolated", "primary.node.paused", "agent.paused")


def promotes_unfenced(stack: ExitStack) -> None:
    without_member_rule(stack, FENCES)


def failure_counts(stack: ExitStack) -> None:
    def fenced(facts: Facts, c: cmd.Fenced, at_ms: int) -> Any:
        return fencing.fenced(facts, replace(c, go_on=True), at_ms)

    stack.enter_context(item(apply.HANDLERS, cmd.Fenced, fenced))


def only_the_last(stack: ExitStack) -> None:
    def unsealed(s: Situation, winner: MemberKey) -> tuple[MemberKey, ...]:
        led = {s.facts.leader} - {None, winner, *sealed(s)}
        return tuple(key for key in led if key is not None)

    stack.enter_context(attribute(election, "unsealed", unsealed))


ROWS: dict[str, Mutant] = {
    "promotes-unfenced": Mutant(
        "A winner promotes without the fencing command that is required.",
        promotes_unfenced,
        CUTS,
        ("fence",),
        fences=True,
    ),
    "failed-fence-counts": Mutant(
        "A required fencing command that failed counts as done.",
        failure_counts,
        CUTS,
        ("fence",),
        fences=True,
    ),
    "fence-not-carried": Mutant(
        "An election forgets whom the winner before it had still to fence.",
        only_the_last,
        (*CUTS, "plot.fence.dies"),
        ("fence",),
        fences=True,
    ),
}
