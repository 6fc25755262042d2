"""The book of remedies: what it remembers over a restart of the agent, and what it forgets."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgherd.act.book import CUT_SHORT, KEPT_MAX, NAME, TOLD_MAX, TOLD_MS, Book
from pgherd.model import action as act
from pgherd.model.action import Planned
from pgherd.model.ids import MemberKey, NodeId, Term
from pgherd.model.remedy import Ending, Step

LEADER = MemberKey(NodeId("n1"), "a1")
N1, N3 = NodeId("n1"), NodeId("n3")
RESTART = Planned(82, "receives nothing", act.RestartReceiver())


def copy(source: NodeId) -> Planned:
    made = act.Rebuild(term=Term(3), leader=LEADER, host="h", port=1, source=source)
    return Planned(58, "copies it", made)


def test_a_restart_of_the_agent_changes_nothing_of_what_was_tried(tmp_path: Path) -> None:
    """What was under way was cut short; the rest is as it was written."""
    told: list[tuple[str, str]] = []
    book = Book(tmp_path / NAME, lambda kind, text: told.append((kind, text)))
    assert book.begun(RESTART, unix_ms=1)
    book.ended(Ending.DONE, "", unix_ms=2)
    assert book.begun(copy(N3), unix_ms=3)
    book.mark_dead_end("a2")
    book.commanded()
    assert book.is_unsaved
    book.save()
    assert not book.is_unsaved
    again = Book(tmp_path / NAME)
    ladder = again.ladder(received_ms=7)
    assert ladder.tried == (Step.RESTART_RECEIVER, Step.COPY)
    assert (ladder.received_ms, ladder.commanded, again.dead_end) == (7, True, "a2")
    assert again.newest is not None
    assert (again.newest.ending, again.newest.why) == (Ending.CUT, CUT_SHORT)
    assert told == [
        ("remedy.begun", "restart receiver: receives nothing"),
        ("remedy.ended", "restart receiver: done"),
        ("remedy.begun", "copy: copies it"),
    ]


def test_a_trouble_that_is_over_gives_every_step_its_turn_again() -> None:
    """What was done stays to be read."""
    book = Book()
    assert not book.is_over(), "there was none"
    book.begun(RESTART, unix_ms=1)
    book.ended(Ending.DONE, "", unix_ms=2)
    assert book.is_over()
    assert book.ladder().tried == ()
    assert [one.step for one in book.told(unix_ms=10)] == [Step.RESTART_RECEIVER]


def test_what_fails_again_and_again_is_one_line_that_counts() -> None:
    """Of the same source; who could not be copied is named, until the trouble is over."""
    book = Book()
    for attempt in range(3):
        book.begun(copy(N3), unix_ms=attempt)
        book.ended(Ending.FAILED, "no space left", unix_ms=attempt)
    book.begun(copy(N1), unix_ms=9)
    book.ended(Ending.DONE, "", unix_ms=10)
    assert [(one.source, one.tries, one.ending) for one in book.told(unix_ms=10)] == [
        (N3, 3, Ending.FAILED),
        (N1, 1, Ending.DONE),
    ]
    assert book.ladder().failed == (N3,)
    book.is_over()
    assert book.ladder().failed == ()


def test_the_book_stays_small_and_other_acts_are_not_in_it() -> None:
    """The newest entries, of remedies alone."""
    book = Book()
    assert not book.begun(Planned(53, "starts", act.StartStandby()), unix_ms=1)
    for attempt in range(3 * KEPT_MAX):
        book.begun(RESTART, unix_ms=attempt)
        book.ended(Ending.DONE, "", unix_ms=attempt)
    assert len(book.ladder().tried) == KEPT_MAX
    assert len(book.told(unix_ms=10)) == TOLD_MAX
    assert book.newest is not None
    assert book.newest.began_unix_ms == 3 * KEPT_MAX - 1
    assert book.told(unix_ms=TOLD_MS + 3 * KEPT_MAX) == (), "it is no news any more"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"remedies": 7}'])
def test_a_book_that_cannot_be_read_or_written_stops_nobody(tmp_path: Path, text: str) -> None:
    """The record is lost, not the repair."""
    path = tmp_path / NAME
    path.write_text(text, encoding="utf-8")
    assert Book(path).newest is None
    nowhere = Book(tmp_path / "missing" / NAME)
    nowhere.begun(RESTART, unix_ms=1)
    nowhere.save()
    assert nowhere.newest is not None
