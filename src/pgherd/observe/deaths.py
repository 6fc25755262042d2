"""How often in a row a server died by itself soon after it was started. Pure."""

from __future__ import annotations

SHORT_LIFE_MS = 60_000
"""Who lived for so long has recovered from whatever it died of before."""


class Deaths:
    """Counts deaths that nobody asked for."""

    def __init__(self) -> None:
        self.in_a_row = 0

    def died(self, *, lived_ms: int) -> int:
        """It died; return the how manieth short life in a row has ended."""
        self.in_a_row = 1 if lived_ms >= SHORT_LIFE_MS else self.in_a_row + 1
        return self.in_a_row

    def lives(self, *, lived_ms: int) -> None:
        """It is seen alive."""
        if lived_ms >= SHORT_LIFE_MS:
            self.in_a_row = 0
