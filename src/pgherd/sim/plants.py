"""Planted errors that the explorer shares with the simulated herd, and the exchange of a rule.

They are in the deciders alone, so that who searches, and how, does not matter to them. Errors in
the hands belong to the hands that they are planted in.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from msgspec.structs import replace

from pgherd.model.ids import MemberKey, Position
from pgherd.plan import election, herd, member
from pgherd.plan.look import sealed
from pgherd.plan.own import MemberRule
from pgherd.plan.rule import Situation
from pgherd.sim.planting import attribute
from pgherd.sim.warden import Warden


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
    """Take a row of the member decider away."""
    rows = tuple(rule for rule in member.RULES if rule.number != number)
    stack.enter_context(attribute(member, "RULES", rows))


class LsnOnly(Position, frozen=True, order=False):
    """A position that forgets its epoch when it is compared."""

    def __lt__(self, other: Position) -> bool:
        return self.lsn < other.lsn

    def __ge__(self, other: Position) -> bool:
        return self.lsn >= other.lsn

    def __gt__(self, other: Position) -> bool:
        return self.lsn > other.lsn


def lsn_only(stack: ExitStack) -> None:
    """Sealed positions are compared by their LSN alone."""

    def by_lsn(s: Situation) -> dict[MemberKey, Position]:
        return {key: LsnOnly(at.epoch, at.lsn) for key, at in sealed(s).items()}

    stack.enter_context(attribute(election, "sealed", by_lsn))


def without_wardens(stack: ExitStack) -> None:
    """Only agents keep deadlines."""
    stack.enter_context(attribute(Warden, "_look", lambda self, until, boots: None))
