"""Who has amnesia and asked lately to be re-admitted, as a Raft leader keeps it for rule 717.

Soft, and used by daemon and simulator alike. Owns how long a question counts; what it is answered
with is for `readmission`.
"""

from __future__ import annotations

from pgherd.model.ids import Instant, NodeId
from pgherd.model.observation import Asking

ASKED_LATELY_MS = 3000


class Asked:
    """Who asked here lately. Soft: who still has amnesia asks again."""

    def __init__(self) -> None:
        self._newest: dict[NodeId, tuple[Asking, Instant]] = {}

    def note(self, node: NodeId, asking: Asking, *, now: Instant) -> None:
        """A node asks."""
        self._newest[node] = (asking, now)

    def lately(self, *, now: Instant) -> dict[NodeId, Asking]:
        """Who asked within the last moments."""
        kept = {n: one for n, one in self._newest.items() if now - one[1] < ASKED_LATELY_MS}
        self._newest = kept
        return {node: asking for node, (asking, _) in kept.items()}
