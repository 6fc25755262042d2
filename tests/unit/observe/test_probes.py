"""Proves how many probes are kept, and in which order they are told."""

from __future__ import annotations

from pgherd.model.probed import Probed
from pgherd.observe.probes import KEPT, ProbeBook


def test_the_last_hundred_are_told_the_newest_first() -> None:
    """And no more than somebody asks for."""
    book = ProbeBook()
    assert book.newest(5) == ()
    for number in range(KEPT + 20):
        book.note(Probed(at_ms=number, verdict="alive", took_ms=1))
    assert [one.at_ms for one in book.newest(3)] == [KEPT + 19, KEPT + 18, KEPT + 17]
    assert len(book.newest(1000)) == KEPT == 100
