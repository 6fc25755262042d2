"""The newest log lines of this process, in memory, so that they can be asked for from afar.

Owns the limits and the numbers of lines. Leaves hiding secrets and who may read them to whoever
hands them out.
"""

from __future__ import annotations

from collections import deque

LINES_MAX = 1000
BYTES_MAX = 256 << 10
LINE_BYTES_MAX = 4000


class Ring:
    """Lines with numbers that go on, counted from 1; the oldest go first."""

    def __init__(self, *, lines_max: int = LINES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._lines: deque[bytes] = deque()
        self._lines_max, self._bytes_max = lines_max, bytes_max
        self._bytes = 0
        self.last = 0
        """The number of the newest line."""

    def add(self, line: bytes) -> None:
        """Keep a line."""
        line = line[:LINE_BYTES_MAX]
        self._lines.append(line)
        self._bytes += len(line)
        self.last += 1
        while len(self._lines) > self._lines_max or self._bytes > self._bytes_max:
            self._bytes -= len(self._lines.popleft())

    def since(self, number: int) -> list[bytes]:
        """What is kept of the lines after a number, oldest first."""
        missing = self.last - number
        if missing <= 0:
            return []
        return list(self._lines)[-missing:]
