"""Prove that a store that went back in time is noticed by its peers, and that nothing else is."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from pgherd.model.ids import NodeId
from pgherd.peer.storemarks import MADE_ANEW, MARKS_MAX, WENT_BACK, StoreMark, StoreMarks

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


def test_the_ledger_knows_which_store_it_is() -> None:
    """Its word counts against what was heard before, and at once for what is heard later."""
    marks = StoreMarks()
    marks.note(StoreMark(2, "one", 8))
    marks.expect(2, "one")
    assert marks.problem(StoreMark(2, "one", 7)), "how far it was is not forgotten for it"
    marks.expect(2, "two")
    assert MADE_ANEW in marks.problem(StoreMark(2, "one", 9))
    assert not marks.problem(StoreMark(2, "two", 1))
    marks.note(StoreMark(2, "one", 99))
    assert marks.newest() == (StoreMark(2, "two", 0),)
    marks.expect(3, "")
    assert not marks.problem(StoreMark(3, "any", 1))


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


def test_who_forgot_the_others_dials_back(tls_herd: Any, tell: Any, wait: Any) -> None:
    """Who proves to be of this cluster says where it is; all others dial only whom they know."""

    async def story() -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        a = await tls_herd.start("a", port=port, address=("127.0.0.1", port))
        b = await tls_herd.start("b", learns=True)
        c = await tls_herd.start("c")
        a.peers.set_peers({B: b.address, NodeId("c"): c.address})
        await wait(lambda: b.peers.connected() == {A: True}, "a connection back")
        assert await b.peers.request(A, "ask", b"x", timeout_s=5) == b"b ask x"
        assert c.peers.connected() == {}

    tell(story(), tls_herd)


def test_a_report_of_another_store_is_refused(tls_herd: Any, tell: Any, wait: Any) -> None:
    """The ledger learnt of its store after it was greeted: its connection ends, and it knows."""

    async def story() -> None:
        a = await tls_herd.start("a", mark=StoreMark(1, "a0", 3))
        b = await tls_herd.start("b", mark=StoreMark(2, "b1", 3))
        tls_herd.introduce()
        await tls_herd.connected()
        a.peers.marks.expect(2, "b0")
        b.peers.send_report(b.report(1))
        await wait(lambda: bool(b.went_back), "told")
        assert MADE_ANEW in b.went_back[0][1]
        assert not a.reports

    tell(story(), tls_herd)
