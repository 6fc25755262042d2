"""What a server suffers from without being dead: the sentence for people, told once per change.

Owns the sentences, each with what to do next, and remembers what was told. Whether it is so is
`server`'s to see, and what follows from it the deciders'.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from pgherd.telemetry import logs

log = logs.get("observe")


class Ailment(StrEnum):
    """FULL: no connection is left · FORKLESS: no process can be started · WRITES_HANG: no WAL
    becomes durable · DIES: it died by itself more than once in a row."""

    FULL = "server.full"
    FORKLESS = "server.forkless"
    WRITES_HANG = "server.writes-hang"
    DIES = "server.died-again"


SENTENCES = {
    Ailment.FULL: (
        "every connection is taken, those for superusers too; sessions that are there go on"
        " (who has them: SELECT usename, application_name, count(*) FROM pg_stat_activity"
        " GROUP BY 1, 2; then raise postgresql.parameters.max_connections, or use a pooler)"
    ),
    Ailment.FORKLESS: (
        "PostgreSQL cannot start a process for a new session; those that are there go on"
        " (raise the limit on processes: TasksMax, pids.max or ulimit -u; or free memory)"
    ),
}

WELL = "server.well"


class Ailments:
    """The present ailment. tell: kind and text of an event for the journal."""

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        self._tell = tell
        self.present: Ailment | None = None

    def note(self, ailment: Ailment | None, text: str = "") -> str:
        """It suffers from this now, or from nothing; return the sentence."""
        sentence = text or (SENTENCES.get(ailment, "") if ailment is not None else "")
        before, self.present = self.present, ailment
        if ailment is not None and ailment is not before:
            self.tell(ailment, sentence)
        elif ailment is None and before is not None:
            log.info(WELL, was=before.value)
            self._tell(WELL, f"{before.value} is over")
        return sentence

    def tell(self, ailment: Ailment, text: str) -> None:
        """Something that happened now and is no state."""
        log.warning(ailment.value, text=text)
        self._tell(ailment.value, text)
