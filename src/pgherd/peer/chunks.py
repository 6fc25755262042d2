"""A snapshot in chunks: cut up by its sender, put together by its receiver. No I/O.

Theory of operation. The sender offers a chunk, the receiver answers where it wants the next one to
begin. Whoever got nothing yet answers the end of the first chunk; who has the beginning from before
a lost connection answers its end, and the transfer goes on from there; a damaged chunk is asked for
again by answering the same place. Every chunk's CRC covers all bytes before it too, so a beginning
that was of another snapshot is noticed as well: then all of it is asked for anew. What was taken
over is shown to nobody before it is complete, and becomes durable in one transaction of the store.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from msgspec.structs import replace

from pgherd.model.ids import NodeId
from pgherd.peer.errors import PeerRefused
from pgherd.peer.frame import Chunk
from pgherd.raft.types import Msg, Snapshot

CHUNK_BYTES = 128 * 1024
SNAPSHOT_BYTES_MAX = 256 * 1024 * 1024
"""More is taken from nobody: a snapshot is kept in memory, by whoever made it too."""
IDLE_TICKS_MAX = 60
"""A beginning that nobody goes on with for so many seconds is given up."""


class Parcel:
    """A snapshot to send. `marks` is what `crc_marks` says of its data: it takes a while."""

    def __init__(self, message: Msg, marks: Sequence[int]) -> None:
        snapshot = message.snapshot or Snapshot()
        self._data = memoryview(snapshot.data)
        self._marks = marks
        self._head = replace(message, snapshot=replace(snapshot, data=b""))
        self.size = len(self._data)

    def chunk(self, at: int) -> Chunk:
        """The chunk that begins at a place; from the start where no chunk begins there."""
        if at % CHUNK_BYTES or not 0 <= at < self.size:
            at = 0
        data = bytes(self._data[at : at + CHUNK_BYTES])
        crc = self._marks[at // CHUNK_BYTES]
        return Chunk(message=self._head, size=self.size, at=at, crc=crc, data=data)


def crc_marks(data: bytes) -> list[int]:
    """The CRC-32 of all bytes up to the end of each chunk."""
    view, crc, marks = memoryview(data), 0, []
    for at in range(0, len(data) or 1, CHUNK_BYTES):
        crc = zlib.crc32(view[at : at + CHUNK_BYTES], crc)
        marks.append(crc)
    return marks


def is_same(one: Msg, other: Msg) -> bool:
    """Whether two messages bring the same snapshot, in the same Raft term."""
    mine, yours = one.snapshot or Snapshot(), other.snapshot or Snapshot()
    return (one.term, mine.index, mine.term) == (other.term, yours.index, yours.term)


class Assembly:
    """The snapshot that is coming in: one at a time, and not larger than the limit."""

    def __init__(self) -> None:
        self._key: tuple[NodeId, int, int, int] | None = None
        self._message = Msg(type="Snap")
        self._parts: list[bytes] = []
        self._have = 0
        self._crc = 0
        self._damaged = False
        self._idle_ticks = 0

    @property
    def held_bytes(self) -> int:
        """What is kept of an unfinished snapshot."""
        return self._have

    def take(self, sender: NodeId, chunk: Chunk) -> int:
        """Take a chunk, if it is the next one; where the next must begin. Raises PeerRefused."""
        check(chunk)
        snapshot = chunk.message.snapshot or Snapshot()
        key = (sender, snapshot.index, snapshot.term, chunk.size)
        if key != self._key:
            if self._key is not None and chunk.message.term < self._message.term:
                raise PeerRefused(f"{self._key[0]} sends a snapshot in a newer Raft term")
            self.clear()
            self._key = key
        self._message, self._idle_ticks = chunk.message, 0
        if chunk.at == self._have:
            self._append(chunk)
        return self._have

    def _append(self, chunk: Chunk) -> None:
        crc = zlib.crc32(chunk.data, self._crc)
        if crc == chunk.crc:
            self._parts.append(chunk.data)
            self._have += len(chunk.data)
            self._crc, self._damaged = crc, False
        elif self._damaged:  # twice the same: it is the beginning that does not belong to it
            self._parts, self._have, self._crc, self._damaged = [], 0, 0, False
        else:
            self._damaged = True

    def is_complete(self, chunk: Chunk) -> bool:
        """Whether this chunk was the last one, and taken."""
        return self._key is not None and self._have == chunk.size

    def give(self) -> tuple[Msg, list[bytes]]:
        """Hand the complete snapshot over: its message and the parts of its data."""
        found = self._message, self._parts
        self.clear()
        return found

    def tick(self) -> None:
        """Once a second: forget a beginning that nobody goes on with."""
        self._idle_ticks += 1
        if self._idle_ticks > IDLE_TICKS_MAX:
            self.clear()

    def clear(self) -> None:
        """Forget what came so far."""
        self.__init__()  # type: ignore[misc]  # the empty state is written down once


def check(chunk: Chunk) -> None:
    """Refuse what cannot be a part of a snapshot that we would take."""
    if chunk.message.type != "Snap" or chunk.message.snapshot is None:
        raise PeerRefused("a chunk of what is no snapshot")
    if chunk.size > SNAPSHOT_BYTES_MAX:
        raise PeerRefused(f"a snapshot of {chunk.size} bytes, the limit is {SNAPSHOT_BYTES_MAX}")
    end = chunk.at + len(chunk.data)
    if not 0 <= chunk.at <= end <= chunk.size or (end == chunk.at < chunk.size):
        raise PeerRefused(f"a chunk from {chunk.at} to {end} of {chunk.size} bytes")


def whole(message: Msg, parts: list[bytes]) -> Msg:
    """The message with its snapshot complete."""
    snapshot = message.snapshot or Snapshot()
    return replace(message, snapshot=replace(snapshot, data=b"".join(parts)))
