"""What sessions were answered is counted by route and kind, open ones and ended ones, and waits by
their class."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from pgherd.relay import counting
from pgherd.relay.tally import HOLD_BUCKETS_S, Tally
from pgherd.route.choose import Route
from pgherd.wire.tracker import Tracker

READY = b"Z\0\0\0\x05I"
COMPLETE = b"C\0\0\0\x0dSELECT 1\0"


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + (4 + len(body)).to_bytes(4, "big") + body


def session(route: Route, *, simple: int = 0, extended: int = 0) -> Any:
    tracker = Tracker()
    for _ in range(simple):
        tracker.client(message(b"Q", b"SELECT 1\0"))
        tracker.server(COMPLETE + READY)
    for _ in range(extended):
        tracker.client(message(b"P", b"\0SELECT 1\0\0\0") + message(b"S"))
        tracker.server(message(b"1") + READY)
    listener = SimpleNamespace(route=route)
    return SimpleNamespace(listener=listener, tracker=tracker, answered=tracker.answered)


def test_answers_are_counted_once() -> None:
    ended: dict[str, Counter[str]] = {}
    counting.note(ended, session(Route.PRIMARY, simple=2, extended=1))
    counting.note(ended, SimpleNamespace(listener=None, tracker=None))  # type: ignore[arg-type] # never joined
    open_now = [session(Route.PRIMARY, simple=1), session(Route.REPLICA, extended=4)]
    for _ in range(2):
        assert counting.total(ended, open_now) == {
            "primary": {"simple": 3, "extended": 1},
            "replica": {"simple": 0, "extended": 4},
        }


def test_what_has_no_answer_yet_is_not_counted() -> None:
    one = session(Route.PRIMARY, simple=1)
    one.tracker.client(message(b"Q", b"SELECT 2\0"))
    assert counting.total({}, [one])["primary"] == {"simple": 1, "extended": 0}


def test_waits_fall_into_classes() -> None:
    tally = Tally()
    for seconds in (0.001, 0.005, 0.006, 100.0):
        tally.waited(seconds)
    assert tally.hold_counts == [2, 1, *([0] * (len(HOLD_BUCKETS_S) - 2)), 1]
    assert round(tally.held_s, 3) == 100.012
