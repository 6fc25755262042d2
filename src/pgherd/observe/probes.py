"""The newest probes of the local server, kept for whoever asks how it has been.

In memory only, and only so many: what counts is decided from the newest one.
"""

from __future__ import annotations

from collections import Counter, deque

from pgherd.model.probed import Probed

KEPT = 100


class ProbeBook:
    """What the last probes met, the oldest first."""

    def __init__(self) -> None:
        self._kept: deque[Probed] = deque(maxlen=KEPT)
        self.counts: Counter[str] = Counter()
        """How many met what, since this agent's start."""

    def note(self, probed: Probed) -> None:
        """Keep one more."""
        self._kept.append(probed)
        self.count(probed.verdict)

    def count(self, verdict: str) -> None:
        """Count one that is not kept."""
        self.counts[verdict] += 1

    def newest(self, limit: int) -> tuple[Probed, ...]:
        """The last of them, the newest first."""
        return tuple(self._kept)[::-1][:limit]
