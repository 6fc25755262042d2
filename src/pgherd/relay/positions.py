"""A question of the proxy's own to a server that a client has: how far is its WAL?

Takes the place of a renewal (`pooled`): while it is under way what the client says is kept, and
nothing of the answer is for the client.
"""

from __future__ import annotations

from collections.abc import Callable

from pgherd.model.ids import Lsn, parse_lsn
from pgherd.wire.query import Answers, ServerError, simple
from pgherd.wire.renewal import Renewal

WRITTEN = simple("SELECT pg_catalog.pg_current_wal_insert_lsn()")
"""Behind every record of a commit that was acknowledged, whatever synchronous_commit says."""

REPLAYED = simple("SELECT pg_catalog.pg_last_wal_replay_lsn()")


class PositionAsked(Renewal):
    """One question. then: is told the answer, or None if the server gave none."""

    def __init__(self, statement: bytes, then: Callable[[Lsn | None], None]) -> None:
        super().__init__({}, ())
        self.statement = statement
        self.answer: Lsn | None = None
        self.then = then
        self._answers = Answers()
        self._is_over = False

    @property
    def is_over(self) -> bool:
        return self._is_over

    def feed(self, data: bytes) -> None:
        """Take the server's bytes. Raises ProtocolViolation."""
        if not self._answers.feed(data):
            return
        self._is_over = True
        try:
            rows = self._answers.take()
            self.answer = parse_lsn(rows[0][0])
        except (ServerError, LookupError, ValueError, AttributeError):
            self.answer = None  # a statement_timeout of the client's own, say
