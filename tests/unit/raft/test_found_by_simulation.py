"""Proves what the core simulator (`./dev sim raft`) once found broken, one test per finding."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.raft.network import MemoryStorage, Network

from pgherd.raft.conformance import Config, ConfState, Hard, Msg, RaftNode, Ready, Snapshot
from pgherd.raft.types import Entry


def followers(messages: tuple[Msg, ...]) -> Iterator[tuple[str, int]]:
    return ((message.type, message.to) for message in messages)


def test_a_node_starts_from_a_snapshot_beyond_the_stored_commit_index() -> None:
    """Seed 1: a moved commit index alone is not stored, a snapshot of what it allowed may be."""
    conf = ConfState(voters=(1,))
    storage = MemoryStorage(conf, index=1, term=1)
    storage.log = [Entry(term=1, index=2), Entry(term=1, index=3)]
    storage.hard = Hard(1, 1, 1)
    storage.newest = Snapshot(index=3, term=1, conf=conf)
    node = RaftNode(Config(id=1, rng=lambda low, high: low, applied=3), storage)
    assert (node.commit, node.applied) == (3, 3)


def led_by_1_with_a_busy_disk(network: Network) -> tuple[RaftNode, Ready]:
    """A leader whose Ready is being stored and will be for long."""
    network.elect(1)
    leader = network.node(1)
    leader.propose(b"slow")
    return leader, leader.ready()


@pytest.mark.fault(45)
def test_heartbeats_leave_while_the_disk_is_busy() -> None:
    """Seed 14: a leader whose fsync took seconds was silent and lost its followers."""
    leader, ready = led_by_1_with_a_busy_disk(Network.of(3))
    assert not leader.urgent()
    leader.tick()
    assert list(followers(leader.urgent())) == [("Heartbeat", 2), ("Heartbeat", 3)]
    assert not leader.urgent()
    leader.advance(ready)


def test_heartbeats_leave_while_a_snapshot_is_made() -> None:
    """Seed 33: between two Readys the disk may be busy too."""
    network = Network.of(3)
    network.elect(1)
    leader = network.node(1)
    leader.tick()
    assert [kind for kind, _ in followers(leader.urgent())] == ["Heartbeat", "Heartbeat"]


@pytest.mark.parametrize("is_under_way", [True, False])
def test_nothing_is_urgent_before_a_new_term_is_stored(is_under_way: bool) -> None:
    """Requests for votes wait for the vote, whether its Ready is under way or not."""
    node = Network.of(3).node(1)
    node.campaign()
    if is_under_way:
        ready = node.ready()
        node.step(Msg(type="Heartbeat", frm=2, to=1, term=node.term))
        assert node.has_ready()
        assert not node.urgent()
        node.advance(ready)
        assert [message.type for message in node.urgent()] == ["HeartbeatResp"]
    else:
        assert not node.urgent()


def test_a_snapshot_waits_for_entries_that_are_being_applied() -> None:
    """Seed 431: an older change of configuration was applied on top of a newer snapshot's."""
    network = Network.of(3, check_quorum=False)
    network.elect(1)
    network.cut(1, 3)
    network.change(1, ("r", 2))
    follower = network.node(3)
    log = network.members[1].storage.log
    term = network.node(1).term
    last = log[-1]
    for one in log:
        follower.step(
            Msg(
                type="App",
                frm=1,
                to=3,
                term=term,
                index=one.index - 1,
                log_term=network.members[1].storage.term(one.index - 1),
                entries=(one,),
                commit=last.index,
            )
        )
    ready = network.begin(3)
    assert last in ready.committed
    newer = ConfState(voters=(1, 2, 3))  # 2 came back
    snapshot = Snapshot(index=last.index + 9, term=term, conf=newer)
    offer = Msg(type="Snap", frm=1, to=3, term=term, snapshot=snapshot)
    follower.step(offer)
    network.finish(3)
    assert follower.conf.voters == (1, 3)
    follower.step(offer)
    network.process(3)
    assert follower.conf == newer
