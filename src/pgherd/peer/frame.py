"""Frames: a header of six bytes (length, version, channel) and a msgpack body.

A frame is believed to be as long as its header says only up to a limit, which is small until the
other side has said who it is. Decoding raises FrameError and nothing else.

Nodes of two versions talk: a greeting says which protocols its sender speaks, from the oldest to
the newest, and the newest that both speak counts. Fields that a node does not know are skipped;
frames on a channel, and Raft messages and reports of a kind, that it does not know are counted and
dropped, as if the network had lost them. What must not be lost goes through the ledger, which has
levels of its own (`ledger.levels`).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TypeVar

import msgspec

from pgherd.model.ids import NodeId
from pgherd.model.observation import Observation
from pgherd.peer.storemarks import StoreMark
from pgherd.raft.types import LOCAL_TYPES, Msg

VERSION = 1
"""Of the header, for ever: a node must be able to read who speaks something else."""
OLDEST, NEWEST = 1, 1
"""The protocols that this node speaks."""
HEADER = struct.Struct(">IBB")
FRAME_BYTES_MAX = 16 * 1024 * 1024
GREETING_BYTES_MAX = 4096
T = TypeVar("T")


class Channel(IntEnum):
    """What a frame's body is."""

    HELLO = 1
    WELCOME = 2
    REFUSED = 3
    RAFT = 4
    REPORT = 5
    REQUEST = 6
    RESPONSE = 7
    PING = 8
    PONG = 9
    LATER = 255
    """Any that this version does not know: its body is not kept."""


KNOWN = {int(channel): channel for channel in Channel if channel is not Channel.LATER}


class Lane(IntEnum):
    """Two connections to each peer, so that a snapshot never delays a heartbeat."""

    MAIN = 0
    BULK = 1


class FrameError(Exception):
    """The other side sent what no peer of this version sends."""


class NotUnderstood(FrameError):
    """Well formed, but of a kind that this version does not know."""


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """The first frame of whoever connects: who it is, whom it wants, and how far its store is.

    oldest, newest: the protocols that it speaks · address: where it is reached itself, for who has
    forgotten that.
    """

    node: NodeId
    to: NodeId
    lane: int = 0
    store: StoreMark = StoreMark()
    oldest: int = 1
    newest: int = 1
    address: tuple[str, int] = ("", 0)


class Welcome(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a greeting: who was reached, and the protocol that both go by."""

    node: NodeId
    protocol: int = 1


class Request(msgspec.Struct, frozen=True, array_like=True):
    """A question; `id` comes back with the answer."""

    id: int
    kind: str
    body: bytes


class Response(msgspec.Struct, frozen=True, array_like=True):
    """An answer: a body, or the problem for which there is none."""

    id: int
    body: bytes
    problem: str | None = None


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """A part of a snapshot. message: the one that brings the snapshot, without its data.

    size: bytes of the whole · at: where this part begins · crc: CRC-32 of all bytes up to the end
    of this part, so that the last part's is the whole's.
    """

    message: Msg
    size: int
    at: int
    crc: int
    data: bytes


class Taken(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a chunk: where the next one must begin; at the end of the whole: complete."""

    next: int


def agreed(oldest: int, newest: int) -> int:
    """The newest protocol that both sides speak; 0 when there is none."""
    found = min(newest, NEWEST)
    return found if found >= max(oldest, OLDEST) else 0


def pack(channel: Channel, body: bytes) -> bytes:
    """A whole frame. Raises FrameError when the body is too long for one."""
    if len(body) > FRAME_BYTES_MAX:
        raise FrameError(f"{len(body)} bytes are too much for one frame")
    return HEADER.pack(len(body), VERSION, channel) + body


class Splitter:
    """Cuts a stream of bytes into frames; keeps at most one unfinished frame."""

    def __init__(self, limit: int = GREETING_BYTES_MAX) -> None:
        self.limit = limit
        self._is_greeted = limit > GREETING_BYTES_MAX
        self._buffer = bytearray()

    def greeted(self) -> None:
        """The other side is known: it may send long frames, and such as only it understands."""
        self.limit, self._is_greeted = FRAME_BYTES_MAX, True

    @property
    def waiting(self) -> int:
        """How many bytes of an unfinished frame are kept."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[tuple[Channel, bytes]]:
        """The frames that are complete now."""
        buffer = self._buffer
        buffer += data
        frames: list[tuple[Channel, bytes]] = []
        at, size = 0, len(buffer)
        while size - at >= HEADER.size:
            length, version, channel = HEADER.unpack_from(buffer, at)
            self._check(length, version, channel)
            end = at + HEADER.size + length
            if end > size:
                break
            if channel not in KNOWN:
                frames.append((Channel.LATER, b""))
            else:
                with memoryview(buffer) as view:  # a slice of the buffer would be a second copy
                    frames.append((KNOWN[channel], bytes(view[at + HEADER.size : end])))
            at = end
        if at:
            del buffer[:at]
        return frames

    def _check(self, length: int, version: int, channel: int) -> None:
        if version != VERSION:
            raise FrameError(f"frame of version {version}, this node speaks {VERSION}")
        if channel not in KNOWN and not (self._is_greeted and channel > Channel.PONG):
            raise FrameError(f"unknown channel {channel}")
        if length > self.limit:
            raise FrameError(f"frame of {length} bytes, the limit is {self.limit}")


encode = msgspec.msgpack.encode
_hello = msgspec.msgpack.Decoder(Hello)
_welcome = msgspec.msgpack.Decoder(Welcome)
_text = msgspec.msgpack.Decoder(str)
_number = msgspec.msgpack.Decoder(int)
_request = msgspec.msgpack.Decoder(Request)
_response = msgspec.msgpack.Decoder(Response)
_message = msgspec.msgpack.Decoder(Msg)
_report = msgspec.msgpack.Decoder(Observation)
_chunk = msgspec.msgpack.Decoder(Chunk)
_taken = msgspec.msgpack.Decoder(Taken)


def decode_hello(body: bytes) -> Hello:
    """Read a greeting."""
    return _decode(_hello, body)


def decode_welcome(body: bytes) -> Welcome:
    """Read the answer to a greeting."""
    return _decode(_welcome, body)


def decode_text(body: bytes) -> str:
    """Read a REFUSED, which says why."""
    return _decode(_text, body)


def decode_number(body: bytes) -> int:
    """Read a PING or PONG."""
    return _decode(_number, body)


def decode_request(body: bytes) -> Request:
    """Read a request."""
    return _decode(_request, body)


def decode_response(body: bytes) -> Response:
    """Read a response."""
    return _decode(_response, body)


def decode_chunk(body: bytes) -> Chunk:
    """Read a part of a snapshot."""
    return _decode(_chunk, body)


def decode_taken(body: bytes) -> Taken:
    """Read the answer to a part of a snapshot."""
    return _decode(_taken, body)


def decode_report(body: bytes) -> Observation:
    """Read a report. Raises NotUnderstood for what only a newer version says."""
    return _decode(_report, body)


def decode_message(body: bytes) -> Msg:
    """Read a Raft message; local ones are never accepted from the network.

    Raises NotUnderstood for one of a type that only a newer version knows.
    """
    message = _decode(_message, body)
    if message.type in LOCAL_TYPES:
        raise FrameError(f"a Raft message of the local type {message.type}")
    return message


def _decode(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise NotUnderstood(f"unexpected body: {error}") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"malformed body: {error}") from error
