"""How far each peer's Raft store is known to have come, so that one that went back is noticed.

A store that was restored from an old copy, rolled back with its virtual machine, or made anew under
the same Raft id has forgotten votes and acknowledgements that others count on. Its peers remember
how many transactions it had, from its reports, and refuse its greeting. Which store a Raft id has
the ledger knows; how far it had come each peer keeps for itself, in a file that may be a little
late: that narrows what goes unnoticed and never widens trust.
"""

from __future__ import annotations

import msgspec

MARKS_MAX = 256
WENT_BACK = "your Raft store went back in time"
MADE_ANEW = "your Raft store is a new one"
"""How such refusals begin; the node that reads one takes no part any more."""


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
        is_newer = known is not None and known.sequence < mark.sequence
        if known is None or (is_newer and known.incarnation == mark.incarnation):
            self._newest[mark.raft_id] = mark

    def expect(self, raft_id: int, incarnation: str) -> None:
        """Believe the ledger: this Raft id has this store and no other."""
        known = self._newest.get(raft_id)
        if incarnation and (known is None or known.incarnation != incarnation):
            self._newest[raft_id] = StoreMark(raft_id, incarnation)

    def newest(self) -> tuple[StoreMark, ...]:
        """All marks, by Raft id."""
        return tuple(mark for _, mark in sorted(self._newest.items()))

    def is_another(self, mark: StoreMark) -> bool:
        """Whether this Raft id is known to have another store than this one."""
        known = self._newest.get(mark.raft_id)
        return (
            known is not None and bool(mark.incarnation) and mark.incarnation != known.incarnation
        )

    def problem(self, mark: StoreMark) -> str:
        """Why a peer with this store must not be listened to; "" when nothing speaks against it."""
        known = self._newest.get(mark.raft_id)
        if known is None or not mark.incarnation:
            return ""
        if self.is_another(mark):
            return f"{MADE_ANEW}, and Raft id {mark.raft_id} had another before"
        if mark.sequence < known.sequence:
            return f"{WENT_BACK}: from transaction {known.sequence} to {mark.sequence}"
        return ""
