"""Prove what a node without its store believes, does and and never takes for granted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pgherd.api.herd import Admission, Seat
from pgherd.daemon import amnesia as room
from pgherd.daemon.amnesia import NOBODY_YET, Amnesia, waiting
from pgherd.daemon.memberfile import MemberFile, read_member
from pgherd.daemon.readmitting import FORGOT_TOO, Answer, Grant
from pgherd.ledger.readmission import Place
from pgherd.model.facts import Address
from pgherd.model.ids import Lsn, MemberKey, NodeId, RaftId, Term, Timeline
from pgherd.model.observation import Asking
from pgherd.model.promises import Promises
from pgherd.peer.errors import PeerRefused, PeerUnreachable
from pgherd.postgres.conf import INCARNATION, read_incarnation
from pgherd.postgres.datadir import DirKind, DirState
from pgherd.postgres.pgcontrol import ControlData
from pgherd.store.base import Identity
from pgherd.store.directory import StoreDirectory
from pgherd.store.sqlite import SqliteStore

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
SEATS = tuple(Seat(n, RaftId(i), Address("h", i)) for i, n in enumerate((N1, N3), start=1))
KNOWN = MemberFile("main", N2, RaftId(2), "s2", "s9", SEATS)
PLACE = Place(term=Term(5), reign=Term(4), leader=MemberKey(N1, "a1"), stable=True, incarnation="")
GRANT = Grant(Admission("main", N2, RaftId(4), SEATS, "73", 15), PLACE)
TOKEN = "n2.aaaaaa@5"


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        ({}, NOBODY_YET),
        ({N1: Answer(waits="w"), N3: "not the Raft leader"}, "n1 decides: w"),
        ({N1: Answer(), N3: FORGOT_TOO}, "2 of 3 voters have lost"),
        ({N1: FORGOT_TOO, N3: FORGOT_TOO}, "pgherd raft recover"),
        ({N1: "no", N3: "it does not answer"}, "n1: no; n3: it does not answer"),
    ],
)
def test_what_people_are_told(answers: dict[NodeId, Answer | str], text: str) -> None:
    """With the majority lost nobody can help, and the way out is another one."""
    assert text in waiting(KNOWN, answers)


class Server:
    """What amnesia needs of a data member's server."""

    user = None

    def __init__(self, data_dir: Path, token: str, *, backup_start: int = 0) -> None:
        self.data_dir, self.token = data_dir, token
        self.control = ControlData(
            system_id="73",
            state="shut down in recovery",
            timeline=Timeline(1),
            checkpoint=Lsn(1),
            redo=Lsn(1),
            min_recovery_end=Lsn(1),
            min_recovery_timeline=Timeline(1),
            backup_start=Lsn(backup_start),
            checksums=True,
            wal_log_hints=True,
            wal_segment_bytes=16 << 20,
        )

    async def state(self) -> DirState:
        return DirState(DirKind.STOPPED, control=self.control)

    async def written_token(self) -> str:
        return self.token


def forgetful(path: Path, *, server: Any = None, **said: Any) -> Amnesia:
    """A node whose peers say this: an Answer, or an error."""

    async def ask(node: NodeId, body: bytes, timeout_s: float) -> bytes:
        assert msgspec.msgpack.decode(body, type=Asking) == Asking("s9", RaftId(2))
        word = said[node]
        if isinstance(word, Exception):
            raise word
        return msgspec.msgpack.encode(word)

    return Amnesia(
        directory=StoreDirectory(path),
        known=KNOWN,
        why="its store is damaged",
        peers=lambda: dict.fromkeys((NodeId(node) for node in said), True),
        ask=ask,
        server=server,
    )


def returned(path: Path) -> tuple[Identity | None, Promises]:
    """What the store holds that the node begins anew with."""
    store = SqliteStore(path)
    try:
        return store.identity(), store.promises()
    finally:
        store.close()


def data_dir(tmp_path: Path, incarnation: str) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    (made / INCARNATION).write_text(incarnation + "\n")
    return made


def test_a_witness_asks_until_it_has_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refusals and silence are no answer; the broken store is kept, whole, beside the new one."""
    monkeypatch.setattr(room, "ASK_S", 0.001)
    path = tmp_path / "raft"
    path.mkdir()
    (path / "store.sqlite").write_bytes(b"broken")
    (path / "events.jsonl").write_bytes(b"{}\n")
    said: dict[str, Any] = {
        "n1": PeerRefused("not the Raft leader"),
        "n3": PeerUnreachable("gone", sent=False),
    }
    node = forgetful(path, **said)

    async def story() -> str:
        asking = asyncio.create_task(node.run())
        while "not the Raft leader" not in node.text():  # noqa: ASYNC110 -- a state, no event
            await asyncio.sleep(0.001)
        assert "its store is damaged" in node.text()
        node._ask = forgetful_answer
        return await asyncio.wait_for(asking, 5)

    async def forgetful_answer(node: NodeId, body: bytes, timeout_s: float) -> bytes:
        return msgspec.msgpack.encode(Answer(grant=GRANT))

    assert "Raft id 4" in asyncio.run(story())
    assert (path / "forgotten-1" / "store.sqlite").read_bytes() == b"broken"
    assert (path / "events.jsonl").read_bytes() == b"{}\n", "the journal goes on"
    identity, promises = returned(path)
    assert identity == Identity("main", N2, RaftId(4), "s9")
    assert promises == Promises(promise=Term(5)), "no promise that was forgotten can be above it"
    written = read_member(path, cluster="main", node=N2)
    assert written is not None
    assert (written.raft_id, written.store, written.asks) == (4, "s9", "")


def test_a_copy_that_streams_goes_on_under_another_name(tmp_path: Path) -> None:
    """It counts for nothing under its old one, and need not be copied."""
    data = data_dir(tmp_path, "aaaaaa")
    node = forgetful(tmp_path / "raft", server=Server(data, TOKEN))
    asyncio.run(node.accept(GRANT))
    _, promises = returned(tmp_path / "raft")
    assert promises.incarnation == read_incarnation(data) != "aaaaaa"
    assert (promises.adopted, promises.adopted_leader) == (5, N1)
    assert not promises.dirty_rewind


@pytest.mark.parametrize(
    ("token", "backup_start", "label"),
    [
        ("", 0, False),
        ("n2.aaaaaa@4", 0, False),
        (TOKEN, 1, False),  # rewound and started, not at the rewind's end
        (TOKEN, 0, True),  # rewound, not started yet
    ],
)
def test_a_copy_of_unknown_past_is_not_started(
    tmp_path: Path, token: str, backup_start: int, *, label: bool
) -> None:
    """A rewind may have been cut short in it: it is copied anew."""
    data = data_dir(tmp_path, "aaaaaa")
    if label:
        (data / "backup_label").touch()
    server = Server(data, token, backup_start=backup_start)
    asyncio.run(forgetful(tmp_path / "raft", server=server).accept(GRANT))
    _, promises = returned(tmp_path / "raft")
    assert promises.incarnation == read_incarnation(data) != "aaaaaa"
    assert promises.dirty_rewind
    assert promises.adopted == 0


def test_the_only_holder_keeps_its_name(tmp_path: Path) -> None:
    """If it is the copy that the ledger means; another one in its place is not."""
    for name, keeps in (("aaaaaa", True), ("bbbbbb", False)):
        place = tmp_path / name
        place.mkdir()
        data = data_dir(place, name)
        mine = MemberKey(N2, "aaaaaa")
        kept = msgspec.structs.replace(PLACE, incarnation="aaaaaa", leader=mine, stable=False)
        grant = msgspec.structs.replace(GRANT, place=kept)
        asyncio.run(forgetful(place / "raft", server=Server(data, "")).accept(grant))
        _, promises = returned(place / "raft")
        assert (read_incarnation(data) == name) is keeps
        assert promises.dirty_rewind is not keeps


def test_without_a_copy_there_is_nothing_to_name(tmp_path: Path) -> None:
    """The machine's disk is new: it is copied to as a newcomer is."""
    for place in (tmp_path / "none", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        path = tmp_path / f"raft-{place.name}"
        asyncio.run(forgetful(path, server=Server(place, "")).accept(GRANT))
        assert returned(path)[1] == Promises(promise=Term(5))


def test_cut_short_it_is_done_again(tmp_path: Path) -> None:
    """Whatever was made before the end is set aside in its turn; nothing is ever deleted."""
    path = tmp_path / "raft"
    asyncio.run(forgetful(path).accept(GRANT))
    asyncio.run(forgetful(path).accept(GRANT))
    assert returned(path)[0] == Identity("main", N2, RaftId(4), "s9")
    assert (path / "forgotten-1" / "store.sqlite").exists()
