"""One probe of a server by its own agent: a fresh session, and what it met."""

from __future__ import annotations

import msgspec


class Probed(msgspec.Struct, frozen=True):
    """at_ms: by the wall clock of its node · verdict: a word of `postgres.probe.Probe` · took_ms:
    until that was clear · failures: in a row, this one included."""

    at_ms: int
    verdict: str
    took_ms: int
    failures: int = 0
