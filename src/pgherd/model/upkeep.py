"""What operators have in hand with the herd: pauses, servers at rest, work that takes a while.

Owns the shape of these facts. How they change is `ledger.upkeep`'s, what follows from them the
deciders'. Times are the wall clock of whoever proposed, in ms since 1970.
"""

from __future__ import annotations

import msgspec


class Pause(msgspec.Struct, frozen=True):
    """Nobody fails over and nothing is repaired by itself. until_ms: 0 where it has no end."""

    id: str
    requested_by: str
    reason: str
    since_ms: int
    until_ms: int = 0

    @property
    def sentence(self) -> str:
        """For people: that it is so, by whom and why."""
        why = f" ({self.reason})" if self.reason else ""
        return f"the cluster is paused by {self.requested_by}{why}"


class Upkeep(msgspec.Struct, frozen=True):
    """All of it."""

    pause: Pause | None = None
