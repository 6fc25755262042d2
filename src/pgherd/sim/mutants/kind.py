"""What a mutant is, and the ways to plant one.

Owns the row's type, what must be planted where, and nothing of any one error.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import msgspec
from msgspec.structs import replace

from pgherd.ledger import syncset
from pgherd.model import action as act
from pgherd.plan import herd, member
from pgherd.plan.own import MemberRule
from pgherd.sim import acts
from pgherd.sim.planting import attribute, item
from pgherd.sim.shapes import THREE, Shape


class Mutant(msgspec.Struct, frozen=True):
    """One planted error. faults: the kinds that may strike, so many of them (count) or pairs of
    them; caught_by: the invariants that must notice; stale: see World.stale_chance."""

    sentence: str
    install: Callable[[ExitStack], None]
    faults: tuple[str, ...]
    caught_by: tuple[str, ...]
    shape: Shape = THREE
    count: int = 10
    stale: float = 0.02


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


def herd_rule(stack: ExitStack, number: int, decide: Any) -> None:
    """Exchange a row of the herd decider."""
    for table in ("RULES", "URGENT"):
        rows = getattr(herd, table)
        new = tuple(replace(r, decide=decide) if r.number == number else r for r in rows)
        stack.enter_context(attribute(herd, table, new))


def member_rule(stack: ExitStack, number: int, decide: Any) -> None:
    """Exchange a row of the member decider."""
    rows = tuple(replace(r, decide=decide) if r.number == number else r for r in member.RULES)
    stack.enter_context(attribute(member, "RULES", rows))


def before_member_rule(stack: ExitStack, number: int, decide: Any) -> None:
    """Put another row before one of the member decider's."""
    place = [rule.number for rule in member.RULES].index(number)
    row = MemberRule(0, "planted", decide)
    rows = (*member.RULES[:place], row, *member.RULES[place:])
    stack.enter_context(attribute(member, "RULES", rows))


def without_member_rule(stack: ExitStack, number: int) -> None:
    rows = tuple(rule for rule in member.RULES if rule.number != number)
    stack.enter_context(attribute(member, "RULES", rows))


def plant_act(stack: ExitStack, kind: type[act.Action], task: Any) -> None:
    stack.enter_context(item(acts.ACTS, kind, task))


def unguarded_ledger(stack: ExitStack) -> None:
    """The ledger believes its deciders."""
    stack.enter_context(attribute(syncset, "broken_rule", lambda sync: ""))
