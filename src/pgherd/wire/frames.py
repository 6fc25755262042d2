"""Walk over a stream of typed messages without keeping it: a type byte, a length, a body.

A relay passes bytes on as they come and shows them here. Most bytes of a session are rows and COPY
data: of these kinds nothing is handed out, and their bodies are stepped over without a copy,
however they are cut. Of the kinds that matter at most `keep_bytes` of a body are kept.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from pgherd.wire.query import HEADER_BYTES
from pgherd.wire.startup import ProtocolViolation

LENGTH_MAX = 0x3FFFFFFF
"""PostgreSQL sends and takes no longer message (MaxAllocSize)."""


class Frame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message. kind: its type byte · body: its beginning, whole where `is_whole`."""

    kind: int
    body: bytes = b""
    is_whole: bool = True


_BARE = [Frame(kind) for kind in range(256)]


class Frames:
    """One direction of a session.

    skip: kinds that are not handed out at all · keep: kinds whose bodies are wanted.
    """

    __slots__ = ("_body", "_header", "_keep", "_keep_bytes", "_kind", "_left", "_skip", "_wanted")

    def __init__(
        self, *, skip: Collection[int], keep: Collection[int], keep_bytes: int = 4096
    ) -> None:
        self._skip = frozenset(skip)
        self._keep = frozenset(keep)
        self._keep_bytes = keep_bytes
        self._header = b""  # the beginning of one that was cut
        self._kind = 0
        self._left = 0  # bytes of the message's body that have not been seen yet
        self._wanted: bytearray | None = None
        self._body = 0

    @property
    def at_boundary(self) -> bool:
        """Whether every message that began has ended."""
        return not self._left and not self._header

    def feed(self, data: bytes) -> list[Frame]:
        """The messages that end within these bytes. Raises ProtocolViolation."""
        found: list[Frame] = []
        at, end = 0, len(data)
        if self._left:
            at = self._go_on(data, found)
        if self._header and at < end:
            data = self._header + data[at:]
            self._header = b""
            at, end = 0, len(data)
        skip = self._skip
        while end - at >= HEADER_BYTES:
            kind = data[at]
            length = int.from_bytes(data[at + 1 : at + HEADER_BYTES], "big")
            if not 4 <= length <= LENGTH_MAX:
                raise ProtocolViolation(f"a message of {length} bytes")
            after = at + 1 + length
            if after > end:
                self._begin(kind, data[at + HEADER_BYTES :], after - end)
                return found
            if kind not in skip:
                found.append(self._frame(kind, data, at + HEADER_BYTES, after))
            at = after
        self._header = data[at:]
        return found

    def _frame(self, kind: int, data: bytes, start: int, end: int) -> Frame:
        if kind not in self._keep:
            return _BARE[kind]
        kept = data[start : min(end, start + self._keep_bytes)]
        return Frame(kind, kept, len(kept) == end - start)

    def _begin(self, kind: int, body: bytes, left: int) -> None:
        """The rest of this message comes later."""
        self._kind, self._left, self._body = kind, left, len(body) + left
        self._wanted = bytearray(body[: self._keep_bytes]) if kind in self._keep else None

    def _go_on(self, data: bytes, found: list[Frame]) -> int:
        """Step over what belongs to a message that began earlier; how many bytes that were."""
        taken = min(self._left, len(data))
        self._left -= taken
        wanted = self._wanted
        if wanted is not None and len(wanted) < self._keep_bytes:
            wanted += data[: min(taken, self._keep_bytes - len(wanted))]
        if not self._left and self._kind not in self._skip:
            body = bytes(wanted) if wanted is not None else b""
            is_whole = wanted is None or len(body) == self._body
            found.append(Frame(self._kind, body, is_whole))
        if not self._left:
            self._wanted = None
        return taken
