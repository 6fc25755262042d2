"""Whether a session whose bytes merely pass is silent by intent, or stalls in a COPY.

Owns what is remembered of both; the patterns are `wire.resting`'s. Shown both directions of a plain
session as they pass, after its login.
"""

from __future__ import annotations

from pgherd.wire.resting import (
    TAIL_BYTES,
    begins_copy_in,
    begins_stream,
    confirms_listen,
    ends_copy_in,
)


class Rest:
    """listens: it said LISTEN, or takes WAL · takes_copy: the server waits for COPY data."""

    __slots__ = ("_tail", "listens", "takes_copy")

    def __init__(self) -> None:
        self.listens = self.takes_copy = False
        self._tail = b""

    def server(self, said: bytes, *, is_ready: bool) -> None:
        """What a server said; is_ready: it ends as a ReadyForQuery does."""
        if is_ready:
            self.takes_copy = False
            self.listens = self.listens or confirms_listen(said)
        else:
            self.takes_copy = begins_copy_in(said)
            self.listens = self.listens or begins_stream(said)

    def client(self, said: bytes) -> None:
        """What a client said while the server took COPY data."""
        self._tail = (self._tail + said[-TAIL_BYTES:])[-TAIL_BYTES:]
        if ends_copy_in(self._tail):
            self.takes_copy, self._tail = False, b""
