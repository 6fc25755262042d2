"""Prove that a node that has been a member never begins anew by itself, whatever it lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pgherd.api.adoption import ADOPTION_FILE, Adoption
from pgherd.api.herd import Admission, Seat
from pgherd.config.load import load_text
from pgherd.config.problems import ConfigError
from pgherd.config.settings import Settings
from pgherd.daemon.identity import JOINED, NOBODY, Opened, first_facts, open_store
from pgherd.daemon.memberfile import MEMBER_FILE, MemberFile, declare_lost, read_member
from pgherd.ledger.machine import Ledger
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Address, Facts, Mode, Phase
from pgherd.model.ids import MemberKey, NodeId, RaftId
from pgherd.postgres.conf import INCARNATION

N1, N2 = NodeId("n1"), NodeId("n2")


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    """A node's settings, as a founder unless told otherwise."""

    def make(members: str = "[n1=h1:8300, n2=h2:8300]") -> Settings:
        text = f"""
version: 1
cluster: {{name: main}}
node: {{name: n2, address: 127.0.0.1}}
raft: {{data_dir: {tmp_path}/raft, members: {members}}}
postgresql: {{data_dir: {tmp_path}/data}}
"""
        return load_text(text, file="test")

    return make


def opened(settings: Settings) -> Opened:
    found = open_store(settings)
    found.store.close()
    if found.forgot is not None:
        found.forgot.directory.close()
    return found


def test_a_founder_founds_once(settings, tmp_path: Path) -> None:
    """It is written down beside the store before it takes any part; started again, it is itself."""
    first = opened(settings())
    assert (first.raft_id, first.forgot) == (2, None)
    written = read_member(tmp_path / "raft", cluster="main", node=N2)
    assert written is not None
    assert (written.raft_id, len(written.store), written.asks) == (2, 12, "")
    again = opened(settings())
    assert (again.raft_id, again.known) == (2, first.known)


@pytest.mark.parametrize("harm", ["damage", "remove", "empty"])
def test_without_its_store_it_has_amnesia(settings, tmp_path: Path, harm: str) -> None:
    """It asks with one and the same new store until it has a place, also after a restart."""
    opened(settings())
    store = tmp_path / "raft" / "store.sqlite"
    good = store.read_bytes()
    for file in (tmp_path / "raft").iterdir():
        if file.name.startswith(("store.sqlite", "acknowledged")):
            file.unlink()
    if harm == "damage":
        store.write_bytes(good[:4096] + bytes(255 - byte for byte in good[4096:]))
    if harm == "remove":
        (tmp_path / "raft" / "acknowledged").write_bytes(b"")
    found = opened(settings())
    assert found.forgot is not None
    assert found.raft_id == NOBODY
    assert found.store.identity() is None
    assert (found.known.raft_id, bool(found.known.asks)) == (2, True)
    assert opened(settings()).known.asks == found.known.asks


def test_a_store_that_was_given_up_counts_no_more(settings, tmp_path: Path) -> None:
    """However good it is: the others may have been told already."""
    first = opened(settings())
    declare_lost(tmp_path / "raft", first.known)
    assert opened(settings()).forgot is not None


def test_a_copy_of_the_data_is_a_past(settings, tmp_path: Path) -> None:
    """All of the Raft directory is gone, and the data of a member is there: no founder."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / INCARNATION).write_text("aaaaaa\n")
    for members in ("[n1=h1:8300, n2=h2:8300]", "[]"):
        found = opened(settings(members))
        assert found.forgot is not None
        assert found.known.raft_id == 0, "under which id it was it does not know"


def test_a_broken_note_is_a_past_too(settings, tmp_path: Path) -> None:
    """A founder's empty directory with an unreadable member.json is not a founder's."""
    (tmp_path / "raft").mkdir()
    (tmp_path / "raft" / MEMBER_FILE).write_text("{")
    assert opened(settings()).forgot is not None


def test_who_joined_begins_once(settings, tmp_path: Path) -> None:
    """What `pgherd join` left is good for one store; the others are known where they were last."""
    (tmp_path / "raft").mkdir()
    seat = Seat(N1, RaftId(1), Address("h1", 8300))
    admission = Admission("main", N2, RaftId(7), (seat,))
    (tmp_path / "raft" / JOINED).write_bytes(msgspec.json.encode(admission))
    first = opened(settings("[]"))
    assert (first.raft_id, first.seeds, first.forgot) == (7, (seat,), None)
    for file in (tmp_path / "raft").iterdir():
        if file.name.startswith(("store.sqlite", "acknowledged")):
            file.unlink()
    assert opened(settings("[]")).forgot is not None


def test_a_stranger_is_told_what_to_do(settings) -> None:
    """Never a member, and not listed: no amnesia that would wait for ever."""
    with pytest.raises(OperatorError, match="belongs to no cluster yet"):
        opened(settings("[]"))


def test_the_note_is_replaced_whole(tmp_path: Path) -> None:
    """What is written is read back; who has none has never been a member."""
    assert read_member(tmp_path, cluster="main", node=N2) is None
    known = declare_lost(tmp_path, MemberFile("main", N2, RaftId(2), "s2"))
    assert read_member(tmp_path, cluster="main", node=N2) == known
    assert declare_lost(tmp_path, known) == known


FILE = """
version: 1
node: {name: n1, address: 127.0.0.1}
raft:
  data_dir: %s
  members: [n1=127.0.0.1:8301, n2=127.0.0.1:8302]
  max_voters: 3
replication: {mode: strict, num_sync: 2}
"""


def test_the_clusters_wishes_travel_into_the_ledger(tmp_path: Path) -> None:
    """Mode, num_sync and max_voters are as the founders' file says; all founders vote at first."""
    settings = load_text(FILE % (tmp_path / "raft"), file="f")
    facts = first_facts(settings)
    assert (facts.mode, facts.num_sync, facts.max_voters) == (Mode.STRICT, 2, 3)
    opened = open_store(settings)
    assert opened.store.snapshot().conf.voters == (1, 2)
    opened.store.close()


@pytest.mark.parametrize(("wrong", "hint"), [("0", "at least 1"), ("9", "at most 7")])
def test_a_limit_of_votes_is_1_to_7(wrong: str, hint: str, tmp_path: Path) -> None:
    """The refusal says the limit and its reason."""
    text = (FILE % tmp_path).replace("max_voters: 3", f"max_voters: {wrong}")
    with pytest.raises(
        ConfigError, match=f"raft.max_voters: {wrong} is too .*{hint}: five survive"
    ):
        load_text(text, file="f")


def test_an_adopted_directory_is_this_nodes_from_the_first_moment_on(settings, tmp_path: Path):
    """The first facts name it, and nobody else can be elected before it was; promises say whose."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / INCARNATION).write_text("abcdef\n")
    (tmp_path / "raft").mkdir()
    said = Adoption(
        data_dir=str(tmp_path / "data"), system_id="73", major=15, incarnation="abcdef", founds=True
    )
    (tmp_path / "raft" / ADOPTION_FILE).write_bytes(msgspec.json.encode(said))
    found = open_store(settings("[n2=h2:8300]"))
    assert found.forgot is None
    promises = found.store.promises()
    assert (promises.incarnation, promises.adopted_leader) == ("abcdef", "n2")
    ledger = Ledger(Facts(cluster="main"))
    ledger.restore(found.store.snapshot().data)
    facts = ledger.facts
    assert (facts.system_id, facts.major, facts.phase) == ("73", 15, Phase.UNBORN)
    assert facts.leader == facts.members[N2].key == MemberKey(N2, "abcdef")
    assert facts.sync.voters == ()
    found.store.close()
    for file in (tmp_path / "raft").glob("*store.sqlite*"):
        file.unlink()
    (tmp_path / "raft" / "acknowledged").unlink(missing_ok=True)
    again = opened(settings("[n2=h2:8300]"))
    assert again.forgot is not None, "a node that has run begins nothing anew"


def test_an_adopted_standby_joins_with_its_directory(settings, tmp_path: Path):
    """It founds nothing, and nobody's server is its to promote."""
    (tmp_path / "raft").mkdir()
    said = Adoption(
        data_dir=str(tmp_path / "data"),
        system_id="73",
        major=15,
        incarnation="abcdef",
        founds=False,
    )
    admission = Admission("main", N2, RaftId(7), (Seat(N1, RaftId(1), Address("h1", 8300)),))
    (tmp_path / "raft" / JOINED).write_bytes(msgspec.json.encode(admission))
    (tmp_path / "raft" / ADOPTION_FILE).write_bytes(msgspec.json.encode(said))
    found = open_store(settings())
    promises = found.store.promises()
    assert (promises.incarnation, promises.adopted_leader) == ("abcdef", None)
    assert (found.raft_id, found.store.snapshot().index) == (7, 0)
    found.store.close()
