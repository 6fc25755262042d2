"""Whether a simulated agent's ledger is as new as rule 16 wants it: through a quorum read.

Read once after the agent's start, and again when its server is first seen on a timeline that no
term which it knows has opened; as the real agent does (`daemon.agent`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pgherd.model.branch import Fork


class Current:
    """One process's reads."""

    def __init__(self) -> None:
        self._context = b"boot"
        self._index: int | None = None
        self._stray: Fork | None = None

    def ask(self, node: Any) -> None:
        """Ask the quorum, again and again until it has answered."""
        if self._index is None:
            node.read_index(self._context)

    def doubt(self, stray: Fork | None) -> None:
        """What was read before the server was seen there does not tell."""
        if stray is not None and stray != self._stray:
            self._stray, self._index, self._context = stray, None, repr(stray).encode()

    def answered(self, reads: Iterable[tuple[int, bytes]]) -> bool:
        """Take the answers to reads; whether one was to ours."""
        mine = [index for index, context in reads if context == self._context]
        if not mine or self._index is not None:
            return False
        self._index = mine[0]
        return True

    def reached(self, applied: int) -> bool:
        """Whether what is applied here is that new."""
        return self._index is not None and applied >= self._index
