"""Proves that messages are found however a stream is cut, and that bulk is stepped over."""

from __future__ import annotations

import contextlib
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from pgherd.wire.frames import Frame, Frames
from pgherd.wire.startup import ProtocolViolation

KEEP, SKIP = b"QZ", b"d"


def message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + (len(body) + 4).to_bytes(4, "big") + body


def frames(keep_bytes: int = 20) -> Frames:
    return Frames(skip=SKIP, keep=KEEP, keep_bytes=keep_bytes)


def expected(kind: int, body: bytes, keep_bytes: int = 20) -> Frame:
    if kind not in KEEP:
        return Frame(kind)
    return Frame(kind, body[:keep_bytes], len(body) <= keep_bytes)


messages = st.lists(st.tuples(st.sampled_from(b"QZdXC"), st.binary(max_size=50)), max_size=12)


@settings(max_examples=400)
@given(messages, st.lists(st.integers(0, 700), max_size=8))
def test_every_cut_finds_the_same_messages(said: list[tuple[int, bytes]], cuts: list[int]) -> None:
    """What is found does not depend on how the bytes come; at the end all is at a boundary."""
    stream = b"".join(message(*each) for each in said)
    places = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    reader, found = frames(), []
    for start, end in pairwise(places):
        found += reader.feed(stream[start:end])
    assert found == [expected(*each) for each in said if each[0] not in SKIP]
    assert reader.at_boundary


@given(messages.filter(bool), st.integers(1, 54))
def test_a_cut_message_is_not_a_boundary(said: list[tuple[int, bytes]], less: int) -> None:
    """Not in its header either."""
    stream = b"".join(message(*each) for each in said)
    whole = len(message(*said[-1]))
    reader = frames()
    reader.feed(stream[: len(stream) - min(less, whole - 1)])
    assert not reader.at_boundary
    one_by_one = frames()
    for at in range(len(stream)):
        one_by_one.feed(stream[at : at + 1])
    assert one_by_one.at_boundary


@settings(max_examples=400)
@given(st.lists(st.binary(max_size=60), max_size=6))
def test_bad_bytes_only_violate(said: list[bytes]) -> None:
    """Nothing but ProtocolViolation comes out, whatever goes in."""
    reader = frames()
    with contextlib.suppress(ProtocolViolation):
        for data in said:
            reader.feed(data)


def test_bulk_is_not_kept() -> None:
    """A row of a gigabyte costs what a small one costs."""
    reader = Frames(skip=b"d", keep=b"Q", keep_bytes=10)
    length = 0x3FFFFFFF
    assert reader.feed(b"d" + length.to_bytes(4, "big") + b"x" * 100) == []
    assert not reader.at_boundary
    kept = [getattr(reader, name) for name in Frames.__slots__]
    assert sum(len(each) for each in kept if isinstance(each, (bytes, bytearray))) == 0
