"""What a node that starts takes from its data directory's own word, and what it keeps."""

from __future__ import annotations

import pytest

from pgherd.model.facts import Floor
from pgherd.model.ids import Lsn, NodeId, Position, Term
from pgherd.model.promises import Promises

KNOWN = Promises(
    promise=Term(4),
    promise_elector=NodeId("n2"),
    adopted=Term(3),
    adopted_leader=NodeId("n3"),
    floor=Floor(Position(Term(3), Lsn(500)), Lsn(400)),
    incarnation="a1a1a1",
)


@pytest.mark.parametrize("word", ["", "a1a1a1"])
def test_its_own_word_or_none_changes_nothing(word: str) -> None:
    assert KNOWN.with_directory(word) == KNOWN


def test_a_directory_that_was_swapped_in_is_another_member() -> None:
    """The promise stays, what was known of the former directory does not."""
    assert KNOWN.with_directory("b2b2b2") == Promises(
        promise=Term(4), promise_elector=NodeId("n2"), incarnation="b2b2b2"
    )


def test_an_agent_that_died_in_a_rewind_takes_no_other_members_word() -> None:
    """pg_rewind had copied the source's: the marker and the floor stay, and it is never started."""
    rewinding = KNOWN.__class__(dirty_rewind=True, floor=KNOWN.floor, incarnation="a1a1a1")
    assert rewinding.with_directory("b2b2b2") == rewinding
