"""What a simulated agent remembers of its own doings, as long as its process lives.

Owns these few notes. Taking them is `agent`'s and `acts`' business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.model import action as act
from pgherd.model.ids import Instant, Lsn, MemberKey, Term
from pgherd.model.pgconfig import ConfigFailed
from pgherd.plan.upstreams import Patience
from pgherd.sim.clock import MS, Task

if TYPE_CHECKING:
    from pgherd.sim.agent import Agent
    from pgherd.sim.stream import Stream


class Memory:
    """What an agent knows of its own doings and would not know after a restart."""

    def __init__(self) -> None:
        self.names_generation = 0
        self.settled = 0
        self.epoch_record: tuple[Term, Lsn] = (Term(0), Lsn(0))
        self.checkpointed_term = Term(0)
        self.checkpointed_for = ""
        self.reloaded = ""
        self.told = -1
        self.config_failed: ConfigFailed | None = None
        self.stale_streams: list[Stream] = []
        self.missing_since: dict[MemberKey, Instant] = {}
        self.following_since = Instant(0)
        self.dead_end = False
        self.since = Instant(0)
        self.patience: Patience | None = None
        self._state = ""

    def note_state(self, state: str, now: Instant) -> None:
        """Remember since when the server is in its state."""
        if state != self._state:
            self._state, self.since = state, now

    def forget_server(self) -> None:
        """The server process is another one now: what was set on the old one is void."""
        self.names_generation = self.settled = 0
        self.epoch_record = Term(0), Lsn(0)
        self.stale_streams = []


def reload(agent: Agent, a: act.Reload) -> Task:
    """Configuration files are not simulated; that they were read again is remembered."""
    yield MS
    agent.memory.reloaded = a.work
