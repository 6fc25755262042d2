"""Planted errors of cascading: who is fed by a server that has gone on (`plan.upstreams`)."""

from __future__ import annotations

from contextlib import ExitStack

from pgherd.sim import feeding
from pgherd.sim.mutants.kind import DEATHS, LOST, Mutant
from pgherd.sim.planting import attribute
from pgherd.sim.shapes import CASCADE


def feeds_on(stack: ExitStack) -> None:
    """An upstream keeps the slots of a term, and their walsenders, when it goes on to another."""
    stack.enter_context(attribute(feeding, "end_feeds", lambda server, of: None))


ROWS: dict[str, Mutant] = {
    "feeds-on": Mutant(
        "A replica that follows another leader, or leads, goes on feeding those of its old term.",
        feeds_on,
        (*DEATHS, "agent.killed"),
        ("I12", *LOST),
        shape=CASCADE,
        count=12,
    ),
}
