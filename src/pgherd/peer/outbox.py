"""What waits to be sent over one connection: bounded, small things first, newest report only."""

from __future__ import annotations

from collections import deque

RAFT_FRAMES_MAX = 1024
RAFT_BYTES_MAX = 4 * 1024 * 1024
URGENT_FRAMES_MAX = 512
CALL_BYTES_MAX = 32 * 1024 * 1024


class Outbox:
    """Queues of one connection. Nothing here blocks; what does not fit is dropped or refused."""

    def __init__(self) -> None:
        self._urgent: deque[bytes] = deque()
        self._raft: deque[bytes] = deque()
        self._raft_bytes = 0
        self._calls: deque[bytes] = deque()
        self._call_bytes = 0
        self._report = b""

    def __bool__(self) -> bool:
        return bool(self._urgent or self._raft or self._calls or self._report)

    def put_urgent(self, frame: bytes) -> bool:
        """Queue ahead of all else; False when the oldest had to go for it."""
        self._urgent.append(frame)
        if len(self._urgent) <= URGENT_FRAMES_MAX:
            return True
        self._urgent.popleft()
        return False

    def put_raft(self, frame: bytes) -> bool:
        """Queue in order; False when older ones had to go for it. One frame always fits."""
        self._raft.append(frame)
        self._raft_bytes += len(frame)
        fits = True
        while len(self._raft) > 1 and (
            len(self._raft) > RAFT_FRAMES_MAX or self._raft_bytes > RAFT_BYTES_MAX
        ):
            self._raft_bytes -= len(self._raft.popleft())
            fits = False
        return fits

    def put_call(self, frame: bytes) -> bool:
        """Queue a request or response; False when there is no room and it was not taken."""
        if self._calls and self._call_bytes + len(frame) > CALL_BYTES_MAX:
            return False
        self._calls.append(frame)
        self._call_bytes += len(frame)
        return True

    def put_report(self, frame: bytes) -> None:
        """Replace the report that waits, if any: the newest wins."""
        self._report = frame

    def take(self, bytes_max: int) -> bytes:
        """The next frames to write, more than bytes_max only for one frame; b"" when empty."""
        taken: list[bytes] = []
        size = 0
        while size < bytes_max:
            frame = self._next()
            if not frame:
                break
            taken.append(frame)
            size += len(frame)
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def _next(self) -> bytes:
        if self._urgent:
            return self._urgent.popleft()
        if self._report:
            frame, self._report = self._report, b""
            return frame
        if self._raft:
            frame = self._raft.popleft()
            self._raft_bytes -= len(frame)
            return frame
        if self._calls:
            frame = self._calls.popleft()
            self._call_bytes -= len(frame)
            return frame
        return b""

    def clear(self) -> bool:
        """Drop everything; whether there was a Raft message among it."""
        had_raft = bool(self._urgent or self._raft)
        self.__init__()  # type: ignore[misc]  # the empty state is written down once
        return had_raft
