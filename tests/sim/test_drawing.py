"""The drawn failover is one: its steps come in the order that makes it safe, and it shows them all.

That the page and the picture are of this run is seen by `./dev docs --check` in tests/tidy.
"""

from __future__ import annotations

from xml.etree import ElementTree

from pgherd.sim.drawing import CLIENTS, LEDGER, events, svg, table

FOUND = events()


def when(step: str, lane: str = "") -> list[int]:
    return [one.ms for one in FOUND if one.step == step and lane in ("", one.lane)]


def test_steps_come_in_the_order_that_makes_them_safe() -> None:
    """Promised and sealed before elected, recorded before stable, open before acknowledged."""
    assert max(when("F1")) < min(when("F2"))
    assert max(when("F2")) < min(when("F3-F5"))
    assert max(when("F3-F5")) < min(when("F6"))
    assert max(when("F6")) <= min(when("F8", LEDGER)) <= min(when("F8"))
    acknowledged = [one.ms for one in FOUND if one.lane == CLIENTS]
    assert len(acknowledged) == 1
    assert max(when("F8")) < acknowledged[0] < min(when("F9"))


def test_the_picture_shows_every_event() -> None:
    """It is well-formed, and has the words of the table."""
    words = "".join(ElementTree.fromstring(svg(FOUND)).itertext())
    rows = table(FOUND)
    for one in FOUND:
        assert one.text in words
        assert f"| {one.lane} | {one.text} |" in rows
