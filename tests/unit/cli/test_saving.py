"""Proves `raft snapshot save` and what `restore` refuses; a cluster test restores a whole one."""

from __future__ import annotations

import json
import socket

import msgspec
import pytest

from pgherd.ledger.saved import Saved, parse, render
from pgherd.model.facts import Address, Facts, Kind, Member
from pgherd.model.ids import NodeId, RaftId, Term
from pgherd.store.base import Identity
from pgherd.store.sqlite import SqliteStore

N1, W1 = NodeId("n1"), NodeId("w1")


def test_the_ledger_is_saved(served, herd, pgherd, tmp_path):
    """Into a file for its owner alone, that is never overwritten; what the API says is told."""
    file, url = tmp_path / "ledger", ("--api-url", served.url)
    done = pgherd("raft", "snapshot", "save", file, *url)
    assert (done.code, done.out) == (0, f"{file}: ledger of main up to index 40\n"), done.err
    saved = parse(file.read_text())
    assert set(saved.facts.members) == set(herd.current.members)
    assert (saved.index, saved.raft_term, saved.voters) == (40, 7, (1, 2, 3))
    assert saved.facts.tokens == {}
    assert file.stat().st_mode & 0o077 == 0
    again = pgherd("raft", "snapshot", "save", file, *url)
    assert (again.code, "is there already" in again.err) == (2, True)
    told = pgherd("raft", "snapshot", "save", tmp_path / "b", *url, "-o", "json").out
    assert json.loads(told)["raft_index"] == 40
    nowhere = pgherd("raft", "snapshot", "save", tmp_path / "no" / "file", *url)
    assert (nowhere.code, "cannot write" in nowhere.err) == (2, True)


def test_without_a_quorum_nothing_is_saved(served, herd, pgherd, tmp_path):
    """What a node believes alone may be old."""
    herd.has_quorum = False
    done = pgherd("raft", "snapshot", "save", tmp_path / "f", "--api-url", served.url)
    assert (done.code, (tmp_path / "f").exists()) == (4, False)


@pytest.fixture
def ground(tmp_path):
    """A witness's configuration, its directory, and a saved ledger of n1 and w1."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    members = {
        N1: Member(N1, RaftId(1), Kind.DATA, Address("127.0.0.1", port), incarnation="aaaaa1"),
        W1: Member(W1, RaftId(2), Kind.WITNESS, Address("127.0.0.1", port + 1)),
    }
    facts = Facts(cluster="main", members=members, term=Term(4), system_id="7")
    saved = Saved(
        facts=facts, index=9, raft_term=2, voters=(RaftId(1), RaftId(2)), saved="then", at_ms=1
    )
    (tmp_path / "ledger").write_text(render(saved))
    (tmp_path / "pgherd.yaml").write_text(
        "version: 1\ncluster: {name: main}\n"
        "node: {name: w1, address: 127.0.0.1, witness: true}\n"
        f"raft: {{data_dir: {tmp_path}/raft, port: {port + 1}}}\n"
    )
    return tmp_path, port, saved


@pytest.fixture
def restore(ground, pgherd):
    where, _, _ = ground

    def call(*words):
        config = ("--config", where / "pgherd.yaml")
        return pgherd("raft", "snapshot", "restore", where / "ledger", *config, *words)

    return call


def test_it_takes_two_steps(ground, restore):
    """The first one looks and says a word, the second one is told it; there is no third."""
    where, _, _ = ground
    looked = restore()
    assert looked.code == 3, looked.err
    assert "it begins anew with term 1004" in looked.out
    assert "this makes a NEW cluster" in looked.err
    word = looked.out.split("confirm   ")[1].split(";")[0]
    assert f"next: pgherd raft snapshot restore {where}/ledger" in looked.err
    assert f"--confirm {word}" in looked.err
    assert restore("--confirm", "0000").code == 3
    higher = restore("--above-term", "2000")
    assert "it begins anew with term 2001" in higher.out
    assert "--above-term 2000 --confirm" in higher.err
    assert json.loads(restore("-o", "json").out)["confirm"] == word
    store = SqliteStore(where / "raft")
    assert store.identity() is None, "nothing is written before the word"
    store.close()
    done = restore("--confirm", word)
    assert (done.code, "w1 begins term 1004 with n1, w1" in done.err) == (0, True), done.err
    store = SqliteStore(where / "raft")
    assert store.identity().node == W1
    assert store.initial_state()[0].commit == 10
    store.close()
    again = restore("--confirm", word)
    assert again.code == 3
    assert "w1 has its consensus store in" in again.err
    assert "next: mv" in again.err


def test_a_member_that_answers_is_in_the_way(ground, restore):
    """All are stopped, and restored, before any is started."""
    _, port, _ = ground
    with socket.create_server(("127.0.0.1", port)):
        refused = restore()
    assert (refused.code, f"n1 answers at 127.0.0.1:{port}" in refused.err) == (3, True)
    assert "stop pgherd everywhere" in refused.err


def test_bad_files_are_refused(ground, restore):
    """Damaged, of a newer pgherd, of another cluster, none at all: said, and nothing is made."""
    where, _, saved = ground
    file, good = where / "ledger", render(saved)
    other = msgspec.structs.replace(
        saved, facts=msgspec.structs.replace(saved.facts, cluster="second")
    )
    for content, why in (
        (good.replace("10.", "11.").replace("then", "than").encode(), "damaged or was changed"),
        (good.replace("ledger 1", "ledger 9", 1).encode(), "format 9"),
        (b"\xff\xfe\x00", "no saved ledger"),
        (render(other).encode(), "of cluster second, this node is of main"),
    ):
        file.write_bytes(content)
        refused = restore()
        assert (refused.code, why in refused.err) == (2, True), refused.err
    file.unlink()
    assert "cannot read" in restore().err
    assert not (where / "raft").exists()


def test_who_is_given_up_cannot_be_restored(restore):
    """Also a name that the file does not know."""
    given_up = restore("--lost", "w1")
    assert (given_up.code, "w1 is not among the members" in given_up.err) == (2, True)
    strange = restore("--lost", "n9")
    assert (strange.code, "knows no n9" in strange.err) == (2, True)


def test_a_damaged_store_is_moved_away_first(ground, restore):
    """It holds what this node promised: nobody but the operator gives that up."""
    where, _, _ = ground
    store = SqliteStore(where / "raft")
    store.set_identity(Identity("main", W1, RaftId(2), "ab"))
    store.close()
    (where / "raft" / "store.sqlite").unlink()
    refused = restore()
    assert refused.code == 3
    assert f"damaged consensus store in {where}/raft" in refused.err
    assert f"mv {where}/raft" in refused.err
