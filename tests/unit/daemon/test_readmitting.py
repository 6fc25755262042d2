"""Prove who answers a node with amnesia, with what, and what is kept of its question."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pgherd.daemon.memberfile import MARKS_EVERY, MemberFile, MemberKeeper, read_member
from pgherd.daemon.readmitting import FORGOT_TOO, Answer, answer
from pgherd.model.facts import Address, Facts, Kind, Member, Phase
from pgherd.model.ids import Instant, NodeId, RaftId, Term
from pgherd.model.observation import Asking
from pgherd.peer.errors import PeerRefused
from pgherd.peer.storemarks import StoreMark
from pgherd.plan.asked import ASKED_LATELY_MS, Asked

N1, N2 = NodeId("n1"), NodeId("n2")
ASKS = Asking("s9", RaftId(2))


def member(node: NodeId, raft_id: int, store: str) -> Member:
    return Member(node, RaftId(raft_id), Kind.DATA, Address(node, 8300), store=store)


def facts(store: str) -> Facts:
    members = {N1: member(N1, 1, "s1"), N2: member(N2, 4, store)}
    return Facts("main", members, next_raft_id=RaftId(5), phase=Phase.STABLE, term=Term(5))


def agent(known: Facts, *, leads: bool = False, amnesia: str = "") -> Any:
    """As much of an agent as is asked."""
    consensus = SimpleNamespace(
        is_ready_to_decide=lambda: leads,
        replica=SimpleNamespace(leader_node=lambda: N1),
    )
    return SimpleNamespace(
        facts=known,
        amnesia=lambda: amnesia,
        consensus=consensus,
        asks=lambda node, asking: f"{node} waits with {asking.store}",
    )


def asked(one: Any) -> Answer:
    raw = answer(one, N2, msgspec.msgpack.encode(ASKS))
    return msgspec.msgpack.decode(raw, type=Answer)


def test_whoever_knows_of_the_new_place_says_so() -> None:
    """It is committed; the others' addresses go with it."""
    found = asked(agent(facts("s9"))).grant
    assert found is not None
    assert (found.admission.raft_id, found.place.term) == (4, 5)
    assert [seat.node for seat in found.admission.members] == [N1]


def test_only_the_leader_takes_it_up() -> None:
    """Another member says who leads; one that forgot as well says that."""
    assert asked(agent(facts("s2"), leads=True)) == Answer(waits="n2 waits with s9")
    with pytest.raises(PeerRefused, match="not the Raft leader, that is n1"):
        asked(agent(facts("s2")))
    with pytest.raises(PeerRefused, match=FORGOT_TOO):
        asked(agent(facts("s9"), leads=True, amnesia="its store is lost"))


def test_a_question_is_soon_forgotten() -> None:
    """Who still has amnesia asks again."""
    book = Asked()
    book.note(N2, ASKS, now=Instant(1000))
    assert book.lately(now=Instant(1000 + ASKED_LATELY_MS - 1)) == {N2: ASKS}
    assert book.lately(now=Instant(1000 + ASKED_LATELY_MS)) == {}


def test_members_are_written_at_once_and_marks_now_and_then(tmp_path: Path) -> None:
    """A quiet node writes nothing but its peers' marks, rarely."""
    known = MemberFile("main", N2, RaftId(4), "s9")
    marks = [StoreMark(1, "s1", 7)]
    now = [facts("s9")]
    keeper = MemberKeeper(tmp_path, known, facts=lambda: now[0], marks=lambda: tuple(marks))

    def kept(times: int = 1) -> MemberFile | None:
        for _ in range(times):
            asyncio.run(keeper.keep())
        return read_member(tmp_path, cluster="main", node=N2)

    first = kept()
    assert first is not None
    assert [seat.node for seat in first.members] == [N1]
    assert first.marks == (StoreMark(1, "s1", 7),)
    marks[0] = StoreMark(1, "s1", 90)
    assert kept(MARKS_EVERY - 1) == first
    later = kept()
    assert later is not None
    assert later.marks == (StoreMark(1, "s1", 90),)
    now[0] = Facts("main")
    assert kept(2 * MARKS_EVERY) == later, "without a ledger the others are where they were"
