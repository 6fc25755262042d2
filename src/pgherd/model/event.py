"""An event: a noun and a verb in the past, with fields. One record feeds log, history and API."""

from __future__ import annotations

import msgspec

from pgherd.model.ids import NodeId, Term


class Event(msgspec.Struct, frozen=True):
    """One decision or happening. at_ms is wall-clock time (UNIX, for people only)."""

    at_ms: int
    node: NodeId
    kind: str
    text: str
    term: Term = Term(0)
    rule: int = 0
    fields: dict[str, str] = {}
