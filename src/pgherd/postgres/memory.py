"""What this process knows of the running server that cannot be read back from it.

Bound to one postmaster: when that is gone, so is this knowledge. Losing it is always safe: the
deciders then ask for the act again, and every act may be done twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from pgherd.model.ids import Lsn, Term, Timeline
from pgherd.model.pgconfig import ConfigFailed
from pgherd.model.standbycluster import SourceSeen

NO_LSN, NO_TERM, NO_TIMELINE = Lsn(0), Term(0), Timeline(0)


@dataclass(slots=True)
class ServerMemory:
    """names_generation, settled: see ServerSeen · epoch_record_end: for epoch_record_term.

    config_failed: of the start before, so it stays with whatever runs now · lower_failed: the
    version that it could not be promoted with, likewise · received: the newest timeline that WAL
    came of, for pg_control says so only later.
    """

    pid: int = 0
    names_generation: int = 0
    settled: int = 0
    epoch_record_end: Lsn = NO_LSN
    epoch_record_term: Term = NO_TERM
    checkpointed_term: Term = NO_TERM
    checkpointed_for: str = ""
    config_failed: ConfigFailed | None = None
    lower_failed: int = 0
    reloaded: str = ""
    roles: str = ""
    source: SourceSeen | None = None
    received: Timeline = NO_TIMELINE

    def belongs_to(self, pid: int) -> None:
        """Forget everything if another postmaster runs now."""
        if pid != self.pid:
            self.pid = pid
            self.names_generation = self.settled = 0
            self.epoch_record_end = NO_LSN
            self.epoch_record_term = NO_TERM
            self.checkpointed_term = NO_TERM
            self.checkpointed_for = ""
            self.reloaded = self.roles = ""
            self.source = None
            self.received = NO_TIMELINE
