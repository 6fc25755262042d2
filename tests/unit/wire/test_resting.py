"""Proves which ends of a plain stream mean silence by intent, and which a COPY that waits."""

from __future__ import annotations

import pytest

from pgherd.wire.resting import (
    TAIL_BYTES,
    begins_copy_in,
    begins_stream,
    confirms_listen,
    ends_copy_in,
)
from pgherd.wire.tracker import Tracker

READY = b"Z\0\0\0\x05I"
LISTENED = b"C\0\0\0\x0bLISTEN\0"
COPY_IN = b"G\0\0\0\x0b\0\0\x02\0\0\0\0"
BOUND = b"1\0\0\0\x042\0\0\0\x04n\0\0\0\x04"


@pytest.mark.parametrize("status", [b"I", b"T"])
def test_a_listen_is_seen_where_it_is_the_last_to_be_confirmed(status: bytes) -> None:
    ready = READY[:5] + status
    assert confirms_listen(LISTENED + ready)
    assert confirms_listen(b"C\0\0\0\x0aBEGIN\0" + LISTENED + ready)
    assert not confirms_listen(LISTENED + b"C\0\0\0\x0bCOMMIT\0" + ready)
    assert not confirms_listen(ready)


def test_a_copy_is_seen_however_it_was_asked_for() -> None:
    """Simple or extended; text or binary with any columns; not behind rows, not cut."""
    assert begins_copy_in(COPY_IN)
    assert begins_copy_in(BOUND + COPY_IN)
    assert begins_copy_in(b"G\0\0\0\x07\x01\0\0")
    for other in (BOUND, COPY_IN[:-1], COPY_IN + READY, b"H" + COPY_IN[1:], b"G", b"", LISTENED):
        assert not begins_copy_in(other)
    assert begins_stream(b"W\0\0\0\x07\0\0\0")
    assert not begins_stream(b"W\0\0\0\x07\0\0")


def test_its_end_is_seen_in_any_cut() -> None:
    """With Sync and Flush behind it too; looked for in the last bytes only."""
    for end in (b"c\0\0\0\x04", b"c\0\0\0\x04S\0\0\0\x04", b"c\0\0\0\x04H\0\0\0\x04S\0\0\0\x04"):
        data = b"d\0\0\0\x061\n" + end
        for cut in range(len(data) + 1):
            tail = (data[:cut][-TAIL_BYTES:] + data[cut:][-TAIL_BYTES:])[-TAIL_BYTES:]
            assert ends_copy_in(tail)
    assert not ends_copy_in(b"d\0\0\0\x061\n")


def test_a_tracker_knows_whose_turn_it_is() -> None:
    """Between statements, in the middle of one, while COPY wants data; not while one runs."""
    tracker = Tracker()
    query = b"Q\0\0\0\x0dCOPY ...\0"
    assert tracker.awaits_client
    tracker.client(query[:7])
    assert tracker.awaits_client
    assert tracker.is_busy
    tracker.client(query[7:])
    assert not tracker.awaits_client
    tracker.server(COPY_IN)
    assert tracker.awaits_client
    tracker.client(b"d\0\0\0\x061\n")
    assert tracker.awaits_client
    tracker.client(b"c\0\0\0\x04")
    assert not tracker.awaits_client
    tracker.server(b"C\0\0\0\x0bCOPY 1\0" + READY)
    assert tracker.awaits_client
    assert not tracker.is_resting
    tracker.client(b"Q\0\0\0\x0eLISTEN n\0")
    tracker.server(LISTENED + READY)
    assert tracker.is_resting
