"""How far each peer's Raft store is known to have come, so that one that went back is noticed.

A store that was restored from an old copy, rolled back with its virtual machine, or made anew under
the same Raft id has forgotten votes and acknowledgements that others count on. Its peers remember
how many transactions it had, from its reports, and refuse its greeting. Soft: a peer that was
started later knows nothing and refuses nobody.
"""

from __future__ import annotations

import msgspec

MARKS_MAX = 256
WENT_BACK = "your Raft store went back in time"
"""How such a refusal begins; the node that reads it stops."""


class StoreMark(msgspec.Struct, frozen=True):
    """A store: of which Raft id, which one, and how many transactions it has. 0 = unknown."""

    raft_id: int = 0
    incarnation: str = ""
    sequence: int = 0


class StoreMarks:
    """The newest mark of each Raft id, which are never used twice."""

    def __init__(self) -> None:
        self._newest: dict[int, StoreMark] = {}

    def note(self, mark: StoreMark) -> None:
        """Remember a mark of a peer that is trusted."""
        known = self._newest.get(mark.raft_id)
        if not mark.raft_id or not mark.incarnation:
            return
        if known is None and len(self._newest) >= MARKS_MAX:
            del self._newest[next(iter(self._newest))]
        if known is None or known.sequence < mark.sequence:
            self._newest[mark.raft_id] = mark

    def problem(self, mark: StoreMark) -> str:
        """Why a peer with this store must not be listened to; "" when nothing speaks against it."""
        known = self._newest.get(mark.raft_id)
        if known is None or not mark.incarnation:
            return ""
        if mark.incarnation != known.incarnation:
            return f"{WENT_BACK}: it is a new one, and Raft id {mark.raft_id} had one before"
        if mark.sequence < known.sequence:
            return f"{WENT_BACK}: from transaction {known.sequence} to {mark.sequence}"
        return ""
