"""What a client asks for before it waits for an answer: one Query, or a batch up to its Sync.

Looks at bytes that were kept, from a message's beginning, and takes nothing away. Pure.
"""

from __future__ import annotations

import msgspec

from pgherd.wire.frames import LENGTH_MAX
from pgherd.wire.query import HEADER_BYTES
from pgherd.wire.startup import ProtocolViolation

MESSAGES_MAX = 1000
"""A cycle of more is not looked at."""


class Said(msgspec.Struct, frozen=True):
    """One message. kind: its type byte · name: of the statement that it is about · text: of a Query
    or Parse · is_portal: it is about a portal instead.
    """

    kind: str
    name: bytes = b""
    text: bytes = b""
    is_portal: bool = False


class Cycle(msgspec.Struct, frozen=True):
    """length: in bytes, of what is there · is_whole: its end is there too · flushes: the client
    waits for answers in the middle of it · is_strange: there is something in it that is not looked
    into, so nobody knows what it does.
    """

    length: int
    said: tuple[Said, ...]
    is_whole: bool
    flushes: bool = False
    is_strange: bool = False

    @property
    def is_simple(self) -> bool:
        """Whether it is one Query."""
        return self.said[-1:] != () and self.said[-1].kind == "Q"


def first_cycle(kept: bytes | bytearray) -> Cycle:
    """The cycle that these bytes begin with. Raises ProtocolViolation for what is no message."""
    said: list[Said] = []
    at, end = 0, len(kept)
    flushes = is_strange = False
    while end - at >= HEADER_BYTES:
        length = int.from_bytes(kept[at + 1 : at + HEADER_BYTES], "big")
        if not 4 <= length <= LENGTH_MAX:
            raise ProtocolViolation(f"a message of {length} bytes")
        after, kind = at + 1 + length, chr(kept[at])
        if after > end or kind == "X":
            break
        body = bytes(kept[at + HEADER_BYTES : after])
        at = after
        if kind == "S":
            return Cycle(at, (*said, Said("S")), True, flushes, is_strange)
        if kind in "QF":
            said.append(Said(kind, text=body.partition(b"\0")[0]))
            return Cycle(at, tuple(said), True, flushes, is_strange or kind == "F")
        flushes = flushes or kind == "H"
        one = _said(kind, body)
        is_strange = is_strange or one is None or len(said) >= MESSAGES_MAX
        if one is not None and not is_strange:
            said.append(one)
    return Cycle(at, tuple(said), False, flushes, is_strange)


def _said(kind: str, body: bytes) -> Said | None:
    """What a message of a batch is about; None for what does not belong there."""
    if kind == "P":
        name, _, rest = body.partition(b"\0")
        return Said("P", name, rest.partition(b"\0")[0])
    if kind == "B":
        return Said("B", body.partition(b"\0")[2].partition(b"\0")[0])
    if kind in "DC":
        return Said(kind, body[1:].partition(b"\0")[0], is_portal=body[:1] != b"S")
    return Said(kind) if kind in "EH" else None
