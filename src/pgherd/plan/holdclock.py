"""When a node learnt that clients are held, and whether it has nothing more to wait for.

Every agent has one, the one that decides for the herd among them. Pure: time comes in.
"""

from __future__ import annotations

from collections.abc import Callable

from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import Instant


class HoldClock:
    """is_quiet: whether no transaction runs that a proxy of this node could hold, by its id."""

    def __init__(self, is_quiet: Callable[[str], bool]) -> None:
        self.id = ""
        self.since = Instant(0)
        self._is_quiet = is_quiet

    def follow(self, facts: Facts, *, now: Instant) -> bool:
        """Take facts; whether clients are held from now on, or not any more."""
        wish = facts.switchover if facts.phase is Phase.STABLE else None
        held = wish.id if wish is not None and wish.held else ""
        if held == self.id:
            return False
        self.id, self.since = held, now
        return True

    def quiet(self) -> str:
        """The hold for which nothing runs here any more; "" while something does, or none is."""
        return self.id if self.id and self._is_quiet(self.id) else ""
