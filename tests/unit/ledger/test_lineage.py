"""Which WAL belongs to the newest reign's history, told from the record of reigns alone."""

from __future__ import annotations

import pytest

from pgherd.ledger.lineage import UNLIMITED, attributed, contains, fork_of, reach, strange
from pgherd.model.facts import Reign
from pgherd.model.ids import Lsn, MemberKey, NodeId, Position, Term

LEADER = MemberKey(NodeId("n1"), "a1")


def reign(term: int, epoch: int, lsn: int, *, promoted: bool = True) -> Reign:
    return Reign(
        term=Term(term),
        leader=LEADER,
        start=pos(epoch, lsn),
        promoted=promoted,
        rule=305,
        reason="",
    )


def pos(epoch: int, lsn: int) -> Position:
    return Position(Term(epoch), Lsn(lsn))


# Term 2 went on from 1:500, term 3 was elected at 1:400 beside it and lost, term 4 goes from 2:900,
# term 5 kept term 4's server.
STORY = (
    reign(1, 0, 100),
    reign(2, 1, 500),
    reign(3, 1, 400),
    reign(4, 2, 900),
    reign(5, 4, 1500, promoted=False),
)


@pytest.mark.parametrize(
    ("epoch", "end"),
    [(5, UNLIMITED), (4, UNLIMITED), (3, None), (2, 900), (1, 500), (0, 100)],
)
def test_reach(epoch: int, end: int | None) -> None:
    """Each ancestor reaches as far as its child's start; a lost branch reaches nowhere."""
    assert reach(STORY, Term(epoch)) == end
    assert fork_of(STORY, pos(epoch, 10)) == end


def test_contains() -> None:
    """A position at a fork is on the history, one byte behind it is not."""
    assert contains(STORY, pos(2, 900))
    assert not contains(STORY, pos(2, 901))
    assert not contains(STORY, pos(3, 1))
    assert not contains((), pos(0, 1))


@pytest.mark.parametrize(
    ("adopted", "position", "begins", "is_strange"),
    [
        (9, pos(2, 700), 600, True),  # promoted at 1:600... of no reign here, behind record 2
        (9, pos(2, 700), 500, False),  # reign 2's own timeline
        (9, pos(5, 1600), 900, False),  # reign 4's, whose server reign 5 kept
        (9, pos(3, 450), 400, False),  # an abandoned reign's: `contains` says no
        (9, pos(1, 450), 400, True),  # its WAL without its record, and nobody knows who took it
        (9, pos(2, 700), 700, False),  # its history file is there, its WAL is not
        (9, pos(1, 300), 50, False),  # before all that is known, and common to all
        (9, pos(7, 700), 600, False),  # an epoch of nobody: `contains` says no
        (2, pos(2, 700), 600, False),  # the reign that it adopted is known
    ],
)
def test_a_promotion_of_no_known_reign(
    adopted: int, position: Position, begins: int, *, is_strange: bool
) -> None:
    """PostgreSQL tells where a timeline begins; a reign that the ledger knows began there."""
    assert strange(STORY, Term(adopted), position, Lsn(begins)) is is_strange


def test_wal_behind_a_promotion_belongs_to_its_reign() -> None:
    """Without its epoch record it is told by whom it was received from, not by the old epoch."""
    assert attributed(STORY, Term(2), pos(1, 700)) == pos(2, 700)
    assert attributed(STORY, Term(3), pos(1, 450)) == pos(3, 450)
    assert attributed(STORY, Term(1), pos(1, 700)) == pos(1, 700)
    assert attributed(STORY, Term(2), pos(1, 500)) == pos(1, 500)
    assert attributed(STORY, Term(2), pos(2, 700)) == pos(2, 700)


def test_attribution_goes_down_to_the_reign_that_wrote() -> None:
    """Who adopted a later reign, and crashed before its first record, has only its parent's WAL."""
    assert attributed(STORY, Term(4), pos(1, 700)) == pos(2, 700)
    assert attributed(STORY, Term(5), pos(2, 950)) == pos(4, 950)
    assert attributed(STORY, Term(4), pos(1, 450)) == pos(1, 450)
