"""The public form of one probe of a server: part of the contract. Owns shapes only."""

from __future__ import annotations

from pgherd.api.shape import Model


class ProbeResult(Model):
    """What a fresh session of a node's own agent met at its server. failures: in a row."""

    at: str
    verdict: str
    took_ms: int
    failures: int
