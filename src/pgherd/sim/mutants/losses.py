"""Planted errors of a loss that a person accepts: whose word it is, and what remains written."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from msgspec.structs import replace

from pgherd.ledger import apply
from pgherd.ledger import commands as cmd
from pgherd.ledger import giving as ledger_giving
from pgherd.model.facts import Facts, GivenUp
from pgherd.model.ids import Lsn
from pgherd.plan import giving
from pgherd.plan.rule import Decision, Situation
from pgherd.sim.mutants.kind import Mutant
from pgherd.sim.planting import attribute, item
from pgherd.sim.plants import herd_rule
from pgherd.sim.shapes import Shape

GIVEN_UP = Shape("given up", size=5, witnesses=2)


def unasked(stack: ExitStack) -> None:
    """Whoever is missing is given up, ordered or not."""

    def in_spite(s: Situation) -> Decision | None:
        lost = tuple(sorted(ledger_giving.needed(s.facts)))
        order = GivenUp(id="", lost=lost, candidate=None, requested_by="nobody", known_end=Lsn(0))
        return giving.in_spite_of_loss(replace(s, facts=replace(s.facts, given_up=order)))

    stack.enter_context(attribute(ledger_giving, "cannot_lose", lambda facts, c: ""))
    herd_rule(stack, 308, in_spite)


def order_lasts(stack: ExitStack) -> None:
    def begin(facts: Facts, c: cmd.Begin, at_ms: int) -> Any:
        new, outcome = apply.begin(facts, c, at_ms)
        return replace(new, given_up=facts.given_up), outcome

    stack.enter_context(item(apply.HANDLERS, cmd.Begin, begin))


ROWS: dict[str, Mutant] = {
    name: Mutant(sentence, plant, (), caught_by, shape=GIVEN_UP, gives_up=True)
    for name, sentence, plant, caught_by in (
        (
            "gives-up-unasked",
            "Who is missing is given up for lost without an order.",
            unasked,
            ("I7",),
        ),
        (
            "order-outlives-its-term",
            "An order to give members up is still in force in the next election.",
            order_lasts,
            ("I7",),
        ),
    )
}
