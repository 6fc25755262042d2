"""Proves the two counts that everything rests on, against a second way of counting."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from pgherd.raft.conformance import ConfState, committed_index, vote_result


@pytest.mark.parametrize(
    ("acks", "expected"),
    [
        ({1: 5}, 0),
        ({1: 5, 2: 3}, 3),
        ({1: 5, 2: 3, 3: 4}, 4),
        ({1: 7, 2: 7, 3: 0}, 7),
        ({}, 0),
        ({1: 9, 4: 9, 5: 9}, 0),
    ],
)
def test_three_voters_commit_what_two_store(acks: dict[int, int], expected: int) -> None:
    """An absent voter stores nothing, and a node that is no voter does not count."""
    assert committed_index(ConfState(voters=(1, 2, 3)), acks) == expected


def test_no_voters_give_no_index_and_a_won_vote() -> None:
    """An empty configuration has no say; the caller must not take it for agreement."""
    assert committed_index(ConfState(), {1: 5}) is None
    assert vote_result(ConfState(), {}) == "won"


@pytest.mark.parametrize("size", range(1, 6))
def test_committed_index_is_the_highest_that_some_majority_stores(size: int) -> None:
    """All acknowledgements of up to five voters, by trying every majority."""
    voters = tuple(range(1, size + 1))
    majorities = list(combinations(voters, size // 2 + 1))
    for values in product(range(3), repeat=size):
        acks = dict(zip(voters, values, strict=True))
        best = max(min(acks[voter] for voter in majority) for majority in majorities)
        assert committed_index(ConfState(voters=voters), acks) == best


def test_both_halves_must_agree_while_joint() -> None:
    """The lower half counts, whichever side it is on."""
    acks = {1: 10, 2: 10, 3: 1, 4: 2, 5: 2}
    for voters, outgoing in (((1, 2, 3), (3, 4, 5)), ((3, 4, 5), (1, 2, 3))):
        conf = ConfState(voters=voters, voters_outgoing=outgoing)
        assert committed_index(conf, acks) == 2


@pytest.mark.parametrize("size", range(1, 6))
def test_vote_is_won_by_a_majority_and_lost_when_none_can_come(size: int) -> None:
    """All votes of up to five voters: pending exactly as long as both ends are possible."""
    voters = tuple(range(1, size + 1))
    conf = ConfState(voters=voters)
    for values in product((True, False, None), repeat=size):
        votes = {node: vote for node, vote in zip(voters, values, strict=True) if vote is not None}
        yes, no = values.count(True), values.count(False)
        won, lost = 2 * yes > size, 2 * (size - no) <= size
        expected = "won" if won else "lost" if lost else "pending"
        assert vote_result(conf, votes) == expected


def test_joint_vote_needs_both_and_loses_with_either() -> None:
    """One lost half is enough to lose, one open half keeps it open."""
    conf = ConfState(voters=(1, 2, 3), voters_outgoing=(4, 5, 6))
    assert vote_result(conf, {1: True, 2: True}) == "pending"
    assert vote_result(conf, {1: True, 2: True, 4: True, 5: True}) == "won"
    assert vote_result(conf, {1: True, 2: True, 4: False, 5: False}) == "lost"


def test_votes_of_strangers_do_not_count() -> None:
    """A majority of nodes that are no voters decides nothing."""
    assert vote_result(ConfState(voters=(1, 2, 3)), {4: True, 5: True, 6: True}) == "pending"
