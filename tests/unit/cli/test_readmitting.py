"""Proves `pgherd raft readmit`: two steps, refused where it would help nobody, only a note."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgherd.api.herd import Seat
from pgherd.daemon.memberfile import MemberFile, read_member, write_member
from pgherd.model.facts import Address
from pgherd.model.ids import NodeId, RaftId
from pgherd.store.sqlite import SqliteStore

N2 = NodeId("n2")
SEAT = Seat(NodeId("n1"), RaftId(1), Address("h1", 8300))
SURE = "--yes-nobody-else-runs-it"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A stopped node: its configuration, and a Raft directory with a store."""
    path = tmp_path / "pgherd.yaml"
    path.write_text(
        "version: 1\ncluster: {name: main}\nnode: {name: n2, address: 127.0.0.1}\n"
        f"raft: {{data_dir: {tmp_path}/raft}}\npostgresql: {{data_dir: {tmp_path}/data}}\n"
    )
    SqliteStore(tmp_path / "raft").close()
    return path


def noted(config: Path) -> MemberFile | None:
    return read_member(config.parent / "raft", cluster="main", node=N2)


def test_two_steps(pgherd, config) -> None:
    """The first says whose store it is and what follows; the second gives it up, for good."""
    write_member(config.parent / "raft", MemberFile("main", N2, RaftId(2), "s2", "", (SEAT,)))
    first = pgherd("raft", "readmit", "--config", config)
    assert first.code == 3
    assert "Raft id 2" in first.out
    assert "no other machine runs as this node" in first.err
    assert SURE in first.err
    assert noted(config).asks == ""
    second = pgherd("raft", "readmit", "--config", config, SURE)
    assert second.code == 0, second.err
    after = noted(config)
    assert after.asks
    assert (after.raft_id, after.members) == (0, (SEAT,)), "an old directory may say an old id"
    assert (config.parent / "raft" / "store.sqlite").exists(), "the daemon sets it aside"
    assert pgherd("raft", "readmit", "--config", config, SURE).code == 0
    assert noted(config).asks == after.asks


def test_nobody_could_readmit_the_only_member(pgherd, config) -> None:
    """Refused, with the store as it is."""
    write_member(config.parent / "raft", MemberFile("main", N2, RaftId(1), "s2"))
    said = pgherd("raft", "readmit", "--config", config, SURE)
    assert said.code == 2
    assert "nobody could re-admit it" in said.err
    assert noted(config).asks == ""


def test_a_node_that_runs_is_left_alone(pgherd, config) -> None:
    """Its daemon holds the directory."""
    held = SqliteStore(config.parent / "raft")
    try:
        said = pgherd("raft", "readmit", "--config", config, SURE)
        assert said.code == 2
        assert "is in use by process" in said.err
    finally:
        held.close()
    assert noted(config) is None
    assert pgherd("raft", "readmit", "--config", config, SURE).code == 0, "no note: as an empty one"
