"""Which WAL belongs to the newest reign's history, told from the record of reigns alone."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pgherd.ledger.lineage import (
    UNLIMITED,
    attributed,
    contains,
    fork_of,
    reach,
    strange,
    strayed,
)
from pgherd.model.branch import FIRST, Fork
from pgherd.model.facts import Reign
from pgherd.model.ids import Lsn, MemberKey, NodeId, Position, Term, Timeline

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


def fork(timeline: int, begins: int) -> Fork:
    return Fork(Timeline(timeline), Lsn(begins))


TWO = fork(2, 100)
TOLD = tuple(
    replace(one, timeline=Timeline(timeline), leader=MemberKey(NodeId(f"n{one.term}"), "a1"))
    for one, timeline in zip(STORY, (2, 3, 0, 4, 0), strict=True)
)
"""The same, each with a leader of its own, and the timelines that established reigns have."""


@pytest.mark.parametrize(
    ("adopted", "branch", "stray"),
    [
        (5, (FIRST, TWO, fork(3, 500), fork(4, 900)), None),
        (5, (FIRST, TWO), None),
        (4, (FIRST, TWO, fork(3, 500)), None),
        (3, (FIRST, TWO, fork(3, 400)), None),
        (1, (FIRST, TWO), None),
        (1, (FIRST, TWO, fork(3, 450)), fork(3, 450)),
        (1, (FIRST, TWO, fork(3, 500)), fork(3, 500)),
        (2, (FIRST, TWO, fork(4, 500)), fork(4, 500)),
        (2, (FIRST, TWO, fork(3, 500), fork(4, 700), fork(5, 750)), fork(4, 700)),
        (4, (FIRST, TWO, fork(3, 500), fork(4, 800)), fork(4, 800)),
        (4, (FIRST, TWO, fork(3, 500), fork(4, 900), fork(5, 900)), fork(5, 900)),
        (4, (FIRST, TWO, fork(3, 500), fork(5, 700), fork(4, 900)), None),
        (2, (FIRST, TWO, fork(3, 500), fork(4, 700), fork(5, 700)), fork(5, 700)),
        (9, (FIRST, fork(7, 700)), None),
        (0, (FIRST, fork(7, 700)), None),
        (5, (), None),
    ],
)
def test_a_timeline_that_no_reign_opened(
    adopted: int, branch: tuple[Fork, ...], stray: Fork | None
) -> None:
    """Point and number count, as far as they are known, and only reigns that were adopted.

    Not what lies before the last one that a reign opened, nor a timeline that has no WAL.
    """
    assert strayed(TOLD, Term(adopted), branch) == stray


def test_before_the_oldest_reign_nothing_is_judged() -> None:
    """The record keeps the newest reigns only."""
    assert strayed(TOLD[1:], Term(4), (FIRST, TWO, fork(3, 500), fork(4, 900))) is None
    assert strayed(TOLD[1:], Term(2), (FIRST, fork(7, 300), fork(8, 600))) == fork(8, 600)


@pytest.mark.parametrize(
    ("adopted", "branch", "stray"),
    [
        (1, (FIRST, TWO, fork(3, 500)), None),
        (1, (FIRST, TWO, fork(3, 500), fork(4, 900)), None),
        (1, (FIRST, TWO, fork(3, 400)), None),  # as far as is known: it lost, and led as well
        (3, (FIRST, TWO, fork(3, 400), fork(4, 500)), fork(4, 500)),
        (2, (FIRST, TWO, fork(3, 500), fork(4, 700)), fork(4, 700)),
    ],
)
def test_a_leader_that_leads_again_takes_its_followers_along(
    adopted: int, branch: tuple[Fork, ...], stray: Fork | None
) -> None:
    """A walreceiver goes on with its upstream, before its agent has heard of the new term."""
    told = tuple(replace(one, leader=LEADER) for one in TOLD)
    assert strayed(told, Term(adopted), branch) == stray
    others = (told[0], *TOLD[1:])
    if adopted == 1:
        assert strayed(others, Term(adopted), branch) == branch[2]
