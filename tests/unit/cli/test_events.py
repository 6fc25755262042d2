"""Proves `pgherd events`: lines for people, objects for programs, filters, and following."""

from __future__ import annotations

import json
import threading
import time

import pytest

from pgherd.cli import events as room
from pgherd.model.event import Event, Level
from pgherd.model.ids import NodeId, Term

N1, N2 = NodeId("n1"), NodeId("n2")


@pytest.fixture
def told(herd):
    journal = herd.told.journal
    journal.record(
        Event(
            at_ms=1_700_000_000_000,
            node=N2,
            kind="primary.changed",
            text="failover from n1 to n2: n1 is silent",
            term=Term(3),
            rule=203,
            level=Level.WARNING,
            index=7,
            id="c7.1",
            duration_ms=812,
        )
    )
    journal.record(Event(at_ms=1_700_000_000_500, node=N1, kind="hook.done", text="well"))
    return journal


def test_events_for_people(served, pgherd, told):
    """When, how important, who, what, by which rule, how long."""
    result = pgherd("events", "--api-url", served.url)
    assert result.out == (
        "2023-11-14T22:13:20.000Z warning n2     primary.changed epoch 3 rule 203:"
        " failover from n1 to n2: n1 is silent (812 ms)\n"
        "2023-11-14T22:13:20.500Z info    n1     hook.done epoch 0: well\n"
    )
    only = pgherd("events", "--level", "warning", "--node", "n2", "--api-url", served.url).out
    assert len(only.splitlines()) == 1
    assert pgherd("events", "--kind", "role.*", "--api-url", served.url).out == ""


def test_events_for_programs(served, pgherd, told):
    """The API's own objects."""
    found = json.loads(pgherd("events", "-o", "json", "--api-url", served.url).out)
    assert [one["kind"] for one in found] == ["primary.changed", "hook.done"]


def test_a_time_that_is_none(served, pgherd, told):
    result = pgherd("events", "--since", "yesterday", "--api-url", served.url)
    assert result.code == 2
    assert "since takes 10m" in result.err


class Enough(BaseException):
    """What was waited for has come; ends a command that follows for ever."""


def test_following_goes_on_at_another_daemon(herd, fakes, serving, pgherd, told, monkeypatch):
    """The stream is taken up where it was, and nothing is shown twice."""
    monkeypatch.setattr(room, "AGAIN_S", 0.05)
    seen: list[str] = []
    first, second = serving(fakes.make_app(herd)), serving(fakes.make_app(herd))

    def change() -> None:
        until = time.monotonic() + 20
        while not herd.told.followers and time.monotonic() < until:
            time.sleep(0.01)
        record(8)
        while "c8.0" not in seen and time.monotonic() < until:
            time.sleep(0.01)
        first.__exit__()
        record(9)

    def record(index: int) -> None:
        event = Event(
            at_ms=1, node=N1, kind="leader.elected", text="x", index=index, id=f"c{index}.0"
        )
        second._loop.call_soon_threadsafe(told.record, event)

    def show(common, one) -> None:
        seen.append(one["id"])
        if one["id"] == "c9.0":
            raise Enough

    monkeypatch.setattr(room, "show", show)
    first.__enter__()
    with second:
        changing = threading.Thread(target=change)
        changing.start()
        with pytest.raises(Enough):
            pgherd("events", "--follow", "--api-url", f"{first.url},{second.url}")
        changing.join(20)
    assert seen[0] == "c7.1"
    assert seen[2:] == ["c8.0", "c9.0"]
