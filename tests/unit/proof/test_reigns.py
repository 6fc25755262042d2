"""Prove that the checker of reigns passes real histories and catches two primaries."""

from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import replace

from pgherd.proof.reigns import Ack, Reigned, judge, reign_of

FIRST = Reigned(1, "n1", 100, 0.0, 1.0, "bootstrap")
SECOND = Reigned(2, "n2", 500, 10.0, 11.0, "failover")
THIRD = Reigned(3, "n1", 900, 20.0, 21.0, "failover")
REIGNS = (FIRST, SECOND, THIRD)


def ack(lsn: int, at: float, node: str = "", *, took: float = 0.1, term: int = 0) -> Ack:
    return Ack(f"commit at {lsn}", lsn, at, at + took, node, term)


def test_each_reign_acknowledges_its_own() -> None:
    found = [ack(200, 5, "n1"), ack(450, 9, "n1"), ack(600, 12, "n2", term=2), ack(950, 22, "n1")]
    assert judge(REIGNS, found) == []


def test_the_reign_is_told_by_the_position() -> None:
    assert reign_of(REIGNS, 99) is None
    assert reign_of(REIGNS, 100) == FIRST
    assert reign_of(REIGNS, 499) == FIRST
    assert reign_of(REIGNS, 5000) == THIRD


def test_a_reply_may_arrive_after_a_seal() -> None:
    """PROTOCOL.md 6, L3: asked for before, contained, told later than the new reign began."""
    found = [ack(450, 9.9, "n1", took=3.0), ack(600, 12, "n2")]
    assert judge(REIGNS, found) == []


def test_an_acknowledged_commit_behind_the_next_reigns_start() -> None:
    """It was acknowledged in term 1, and term 2 began without it."""
    found = judge(REIGNS, [ack(510, 9.0, "n1")])
    assert any("before term 2 of n2 began" in text for text in found)
    assert any("acknowledged by n1, but lies in term 2 of n2" in text for text in found)


def test_containment_needs_no_node() -> None:
    """A write through a proxy: who acknowledged it is not known."""
    [text] = judge(REIGNS, [ack(510, 9.0)])
    assert "before term 2 of n2 began" in text


def test_two_nodes_that_acknowledge_at_once() -> None:
    """The old primary is asked after the new one has acknowledged, and says yes."""
    found = judge(REIGNS, [ack(600, 12, "n2"), ack(460, 13, "n1")])
    assert found == [
        "commit at 460 was asked for and acknowledged in term 1, after commit at 600 had been "
        "acknowledged in term 2"
    ]


def test_an_old_primary_that_goes_on_in_its_own_history() -> None:
    """Its positions reach into the next reign's: a node's acknowledgement lies in another's."""
    found = judge(REIGNS, [ack(600, 12, "n2"), ack(620, 12.05, "n1"), ack(640, 12.2, "n2")])
    assert found == ["commit at 620 was acknowledged by n1, but lies in term 2 of n2"]


def test_a_commit_that_saw_a_later_term_than_its_own() -> None:
    [text] = judge(REIGNS, [ack(450, 9, "n1", term=2)])
    assert "saw term 2" in text


def test_a_reign_that_begins_before_its_predecessor() -> None:
    [text] = judge((FIRST, replace(SECOND, start=50)), [])
    assert "begins before" in text


def test_nothing_is_known_of_what_was_before() -> None:
    """Reigns that the ledger has forgotten are no reason to complain."""
    assert judge((SECOND, THIRD), [ack(200, 5, "n1"), ack(600, 12, "n2")]) == []


def test_terms_that_were_never_established_are_no_gap() -> None:
    """A winner may have more than was acknowledged, die, and be followed by one with less."""
    hopeless = Reigned(2, "n3", 620, 9.0, None, "failover")
    later = replace(SECOND, term=3, start=500)
    assert judge((FIRST, hopeless, later), [ack(200, 5, "n1"), ack(600, 12, "n2")]) == []


def test_a_winner_without_everything_is_seen_even_if_it_never_reigned() -> None:
    hopeless = Reigned(2, "n3", 300, 9.0, None, "failover")
    [text] = judge((FIRST, hopeless), [ack(400, 5, "n1")])
    assert "before term 2 of n3 began" in text


@pytest.mark.parametrize("seed", range(30))
def test_any_serial_run_passes_and_a_second_primary_is_caught(seed: int) -> None:
    rng = Random(seed)
    lsn, at, ruling, found = 100, 0.0, [], []
    for term in range(1, 6):
        node = f"n{rng.randint(1, 3)}"
        ruling.append(Reigned(term, node, lsn, at, at + 1, "failover"))
        at += 1.5
        for _ in range(rng.randint(1, 8)):
            found.append(ack(lsn, at, node, term=term))
            lsn, at = lsn + rng.randint(1, 50), at + 1
        lsn += 1
    assert judge(ruling, found) == []
    old = rng.choice([one for one in found if one.term < 5])
    late = replace(old, name="late", started=at, finished=at + 0.1)
    assert judge(ruling, [*found, late])
    stranger = replace(found[-1], node="n9")
    assert judge(ruling, [*found[:-1], stranger])
