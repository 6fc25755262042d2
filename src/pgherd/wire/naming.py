"""Names of prepared statements within messages: found, and exchanged for others. Pure."""

from __future__ import annotations

from pgherd.wire.startup import ProtocolViolation


def name_of(body: bytes) -> tuple[bytes, bytes]:
    """A name and what stands behind it. Raises ProtocolViolation."""
    name, zero, rest = body.partition(b"\0")
    if not zero:
        raise ProtocolViolation("a name without an end")
    return name, rest


def renamed(kind: int, before: bytes, name: bytes, other: bytes, length: int) -> tuple[bytes, int]:
    """The beginning of a message with another name. before: what stands before the name."""
    whole = 4 + length + len(other) - len(name)
    start = bytes((kind,)) + whole.to_bytes(4, "big") + before + other + b"\0"
    return start, len(before) + len(name) + 1
