"""The first words of a replica to a client's cycle, kept until it is clear that it takes it.

Nothing of an answer reaches the client while it may still be taken back: a statement that a replica
refuses, or loses with its connection, is then for another server, and the client sees one answer.
Owns what is kept and the SQLSTATEs for which another server is asked.
"""

from __future__ import annotations

from enum import Enum, auto

from pgherd.wire.query import HEADER_BYTES, error_of

KEPT_BYTES_MAX = 65_536

REFUSED = frozenset({"25006", "0A000"})
"""Of what a standby does not do (read_only_sql_transaction, feature_not_supported)."""

LATE = frozenset({"40001", "42P01", "42703", "42704", "42883", "3F000", "42P02"})
"""Of a conflict with what it replays, and of names that it may not have yet."""

_SILENT = frozenset(b"123tTnNS")
"""What says nothing yet of whether a statement works."""


class Outcome(Enum):
    """OPEN: not known yet · TAKEN: the replica answers · AGAIN: it does not take it."""

    OPEN = auto()
    TAKEN = auto()
    AGAIN = auto()


class Trial:
    """Of one cycle. said: what the client said · heard: the server's answer so far."""

    def __init__(self, said: bytes) -> None:
        self.said = said
        self.heard = bytearray()
        self.sqlstate = ""
        self._at = 0

    def feed(self, data: bytes) -> Outcome:
        """Take bytes of the server."""
        self.heard += data
        heard, end = self.heard, len(self.heard)
        while end - self._at >= HEADER_BYTES:
            kind = heard[self._at]
            after = self._at + 1 + int.from_bytes(heard[self._at + 1 : self._at + 5], "big")
            if after > end:
                break
            if kind == ord("E") and not self.sqlstate:
                error = error_of(bytes(heard[self._at + HEADER_BYTES : after]))
                if not error.fatal and error.sqlstate not in REFUSED | LATE:
                    return Outcome.TAKEN
                self.sqlstate = error.sqlstate
            elif kind == ord("Z") and self.sqlstate:
                return Outcome.AGAIN
            elif kind not in _SILENT:
                return Outcome.TAKEN
            self._at = after
        return Outcome.TAKEN if end > KEPT_BYTES_MAX else Outcome.OPEN
