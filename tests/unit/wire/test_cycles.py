"""Where a client's request ends, and what it is about."""

from __future__ import annotations

import pytest

from pgherd.wire.cycles import Said, first_cycle
from pgherd.wire.query import SYNC, TERMINATE, prepare, run, simple
from pgherd.wire.startup import ProtocolViolation

FLUSH = b"H\0\0\0\x04"
BATCH = prepare("s", "SELECT $1") + run("s", ["x"])


def test_a_query_is_a_cycle_of_its_own():
    cycle = first_cycle(simple("SELECT 1") + simple("SELECT 2"))
    assert (cycle.length, cycle.is_whole) == (len(simple("SELECT 1")), True)
    assert cycle.said == (Said("Q", text=b"SELECT 1"),)


def test_a_batch_ends_with_its_sync():
    cycle = first_cycle(BATCH + simple("SELECT 2"))
    assert (cycle.length, cycle.is_whole, cycle.flushes) == (len(BATCH), True, False)
    assert cycle.said[:2] == (Said("P", b"s", b"SELECT $1"), Said("B", b"s"))
    assert [said.kind for said in cycle.said] == ["P", "B", "D", "E", "S"]
    assert cycle.said[2].is_portal


@pytest.mark.parametrize("cut", range(len(BATCH)))
def test_what_is_cut_is_not_whole(cut):
    cycle = first_cycle(BATCH[:cut])
    assert not cycle.is_whole
    assert cycle.length <= cut
    assert not cycle.is_strange


def test_what_is_not_looked_into_is_strange():
    assert first_cycle(b"F\0\0\0\x08\0\0\0\0").is_strange
    assert first_cycle(b"f\0\0\0\x05\0" + SYNC).is_strange
    assert first_cycle(prepare("s", "SELECT 1") + FLUSH).flushes
    assert first_cycle(TERMINATE).length == 0
    assert first_cycle(prepare("s", "x") + TERMINATE).length == len(prepare("s", "x"))
    with pytest.raises(ProtocolViolation):
        first_cycle(b"Q\0\0\0\x01x")
