"""Prove that a store that went back in time is noticed by its peers, and that nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from pgherd.model.ids import NodeId
from pgherd.peer.storemarks import MARKS_MAX, WENT_BACK, StoreMark, StoreMarks

A, B = NodeId("a"), NodeId("b")


@pytest.mark.parametrize(
    ("mark", "problem"),
    [
        (StoreMark(2, "one", 8), ""),
        (StoreMark(2, "one", 9), ""),
        (StoreMark(2, "one", 7), "from transaction 8 to 7"),
        (StoreMark(2, "two", 99), "a new one, and Raft id 2 had another before"),
        (StoreMark(3, "two", 1), ""),
        (StoreMark(), ""),
    ],
)
def test_only_less_than_before_is_a_problem(mark: StoreMark, problem: str) -> None:
    """A new store needs a new Raft id; an unknown one has no past; older versions say nothing."""
    marks = StoreMarks()
    for sequence in (5, 8, 6):
        marks.note(StoreMark(2, "one", sequence))
    marks.note(StoreMark())
    assert problem in marks.problem(mark)
    assert bool(problem) == bool(marks.problem(mark))


def test_marks_are_bounded() -> None:
    """Raft ids are never used twice, so the oldest one may be forgotten."""
    marks = StoreMarks()
    for raft_id in range(1, MARKS_MAX + 10):
        marks.note(StoreMark(raft_id, "one", 5))
    assert marks.problem(StoreMark(1, "one", 4)) == ""
    assert marks.problem(StoreMark(MARKS_MAX, "one", 4))
    assert len(marks._newest) == MARKS_MAX


def test_a_restored_store_is_refused_and_its_node_told(tls_herd: Any, tell: Any, wait: Any) -> None:
    """Its reports had said more: no message of it gets through, and it learns why."""

    async def story() -> None:
        a = await tls_herd.start("a", mark=StoreMark(1, "a0", 3))
        b = await tls_herd.start("b", mark=StoreMark(2, "b0", 3))
        tls_herd.introduce()
        await tls_herd.connected()
        b.mark = StoreMark(2, "b0", 40)
        b.peers.send_report(b.report(1))
        await wait(lambda: len(a.reports) == 1, "a report")
        assert a.reports[0].store_sequence == 40
        await b.peers.stop()
        restored = await tls_herd.start("b", mark=StoreMark(2, "b0", 12))
        tls_herd.introduce()
        await wait(lambda: bool(restored.went_back), "told")
        assert restored.went_back[0][0] == A
        assert f"{WENT_BACK}: from transaction 40 to 12" in restored.went_back[0][1]
        assert B not in a.peers._door.guests()
        await restored.peers.stop()
        whole = await tls_herd.start("b", mark=StoreMark(2, "b0", 41))
        tls_herd.introduce()
        await tls_herd.connected()
        assert not whole.went_back

    tell(story(), tls_herd)
