"""What a mutant is, and the ways to plant one.

Owns the row's type, what must be planted where, and nothing of any one error.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import msgspec

from pgherd.ledger import syncset
from pgherd.model import action as act
from pgherd.sim import acts
from pgherd.sim.planting import attribute, item
from pgherd.sim.shapes import THREE, Shape


class Mutant(msgspec.Struct, frozen=True):
    """One planted error. faults: the kinds that may strike, so many of them (count) or pairs of
    them; caught_by: the invariants that must notice; stale: see World.stale_chance; gives_up:
    instead of a storm, a story in which a person has to give members up."""

    sentence: str
    install: Callable[[ExitStack], None]
    faults: tuple[str, ...]
    caught_by: tuple[str, ...]
    shape: Shape = THREE
    count: int = 10
    stale: float = 0.02
    gives_up: bool = False


DEATHS = (
    "primary.postmaster.killed",
    "primary.node.crashed",
    "primary.isolated",
    "primary.node.paused",
    "ambush.promote",
)
SETS = ("standby.node.crashed", "standby.postmaster.killed", "data.lost", "ambush.names")
LOST = ("I7", "I8", "I10")
"""Where an acknowledged commit is missing shows as one of these, whichever is looked at first."""
MISCOUNTED = ("I14", *LOST)
"""An election that counts who is not sealed, or what comes of it."""


def plant_act(stack: ExitStack, kind: type[act.Action], task: Any) -> None:
    stack.enter_context(item(acts.ACTS, kind, task))


def unguarded_ledger(stack: ExitStack) -> None:
    """The ledger believes its deciders."""
    stack.enter_context(attribute(syncset, "broken_rule", lambda sync: ""))
