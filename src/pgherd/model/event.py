"""An event: a noun and a verb in the past, with fields. One record feeds log, history and API.

Owns its shape and how much it matters. Which kinds there are is `eventkinds`'.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from pgherd.model.ids import NodeId, Term


class Level(StrEnum):
    """How much an event matters; the order in which they stand is that of weight."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def weight(self) -> int:
        """0 for the least."""
        return list(Level).index(self)


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One decision or happening. at_ms is wall-clock time (UNIX, for people only).

    index: of the ledger's log, where the whole cluster knows of it; 0: only its node does · id: the
    same wherever and however often it is told; "" until a journal has taken it · node: who tells,
    or whom it is about where all know · duration_ms: of what has ended with it.
    """

    at_ms: int
    node: NodeId
    kind: str
    text: str
    term: Term = Term(0)
    rule: int = 0
    fields: dict[str, str] = {}
    level: Level = Level.INFO
    index: int = 0
    id: str = ""
    duration_ms: int | None = None

    @property
    def is_clusters(self) -> bool:
        """Whether every node has it, from the ledger."""
        return self.index > 0
