"""Proves replication: what is appended, acknowledged, committed and applied, and in what order."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.raft.network import Network

from pgherd.raft.conformance import (
    ConfState,
    Entry,
    Hard,
    Msg,
    ProposalDropped,
    Ready,
    Snapshot,
    StepLocalMsg,
    StepPeerNotFound,
    entry_size,
)

FIGURE_7 = {
    "leader": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6],
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


def log_terms(network: Network, node: int) -> list[int]:
    return [entry.term for entry in network.members[node].storage.log]


def give_log(network: Network, node: int, terms: list[int], *, term: int) -> None:
    """Let a node have these entries (after index 1) and this term in storage."""
    entries = tuple(Entry(term=one, index=2 + n) for n, one in enumerate(terms))
    network.members[node].storage.save(Ready(entries=entries, hard=Hard(term, 0, 1)))
    network.restart(node)


def test_a_proposal_is_committed_by_a_majority_and_applied_everywhere() -> None:
    """Paper 5.3."""
    network = Network.of(3)
    network.elect(1)
    network.propose(1, "a", "b")
    for node in network.members:
        assert network.members[node].values() == ["a", "b"]
        assert network.node(node).commit == network.node(node).applied == 4


@pytest.mark.parametrize(("down", "commits"), [(1, True), (2, True), (3, False)])
def test_a_minority_down_does_not_stop_five_nodes(down: int, commits: bool) -> None:
    """Paper 5.3: a majority is enough, less is not."""
    network = Network.of(5)
    network.elect(1)
    for node in range(5, 5 - down, -1):
        network.crash(node)
    network.propose(1, "a")
    assert (network.members[1].values() == ["a"]) is commits


def test_a_single_voter_commits_only_what_it_has_stored() -> None:
    """M3: the entry is stored by the first Ready and committed by the second."""
    network = Network.of(1)
    network.elect(1)
    network.node(1).propose(b"x")
    first = network.process(1)
    assert first.must_sync
    assert (len(first.entries), first.committed) == (1, ())
    second = network.process(1)
    assert [entry.data for entry in second.committed] == [b"x"]
    assert not second.must_sync


def test_an_append_is_acknowledged_by_the_ready_that_stores_it() -> None:
    """M2: and a crash before storing means that it never was."""
    network = Network.of(3)
    network.elect(1)
    network.node(1).propose(b"x")
    network.process(1)
    for message in network.under_way:
        network.deliver(message)
    ready = network.node(2).ready()
    assert ready.must_sync
    assert [(one.type, one.index) for one in ready.messages] == [("AppResp", 3)]
    assert [entry.index for entry in ready.entries] == [3]
    network.restart(2)
    assert network.members[2].storage.last_index() == 2


def test_replies_follow_everything_else_in_a_ready() -> None:
    """Other messages may leave before the disk is done."""
    network = Network.of(3)
    network.elect(1)
    node = network.node(1)
    node.step(Msg(type="Vote", frm=2, to=1, term=node.term, index=9, log_term=9))
    network.tick(1)
    kinds = [one.type for one in node.ready().messages]
    assert kinds == ["Heartbeat", "Heartbeat", "VoteResp"]


def test_only_entries_of_the_own_term_are_committed_by_counting() -> None:
    """Paper 5.4.2, figure 8: an old entry on a majority may still be replaced."""
    network = Network.of(3)
    for node in (1, 2):
        give_log(network, node, [2], term=2)
    network.node(1).campaign()
    network.process(1)
    leader = network.node(1)
    term = leader.term
    leader.step(Msg(type="VoteResp", frm=2, to=1, term=term))
    network.begin(1)
    leader.step(Msg(type="AppResp", frm=2, to=1, term=term, index=2))
    assert leader.commit == 1
    leader.step(Msg(type="AppResp", frm=2, to=1, term=term, index=3))
    assert leader.commit == 1
    network.finish(1)
    assert leader.commit == 3


@pytest.mark.parametrize("other", ["a", "b", "c", "d", "e", "f"])
def test_every_log_of_figure_7_becomes_the_leaders(other: str) -> None:
    """Paper 5.3: whatever a follower has, the leader's log replaces it."""
    network = Network.of(3)
    give_log(network, 1, FIGURE_7["leader"], term=7)
    give_log(network, 2, FIGURE_7[other], term=7)
    give_log(network, 3, FIGURE_7["leader"], term=7)
    network.isolate(2)
    network.elect(1)
    network.heal()
    network.beat(2)
    expected = [*FIGURE_7["leader"], network.node(1).term]
    assert log_terms(network, 2) == expected
    assert network.node(2).applied == network.node(1).commit == len(expected) + 1


def test_diverging_terms_are_skipped_whole() -> None:
    """A long tail of another leader costs one probe, not one per entry."""
    network = Network.of(3)
    give_log(network, 1, [1, *[3] * 5, *[5] * 50], term=6)
    give_log(network, 3, [1, *[3] * 5, *[5] * 50], term=6)
    give_log(network, 2, [1, *[4] * 60], term=6)
    network.isolate(2)
    network.elect(1)
    network.heal()
    network.journal.clear()
    network.beat(2)
    refusals = [one for one in network.journal if one.type == "AppResp" and one.reject]
    assert len(refusals) <= 3
    assert log_terms(network, 2) == log_terms(network, 1)


@pytest.mark.parametrize(
    ("log_term", "index", "hint", "hint_term"),
    [(3, 3, 3, 2), (2, 9, 4, 2), (1, 4, 1, 1), (9, 9, 4, 2)],
)
def test_a_follower_refuses_what_does_not_fit(
    log_term: int, index: int, hint: int, hint_term: int
) -> None:
    """Paper 5.3, with a guess from where to try next; nothing is committed by a refusal."""
    network = Network.of(3)
    give_log(network, 1, [2, 2, 2], term=4)
    network.node(1).step(
        Msg(type="App", frm=2, to=1, term=4, log_term=log_term, index=index, commit=9)
    )
    (answer,) = network.node(1).ready().messages
    assert (answer.reject, answer.index) == (True, index)
    assert (answer.reject_hint, answer.log_term) == (hint, hint_term)
    assert network.node(1).commit == 1


def test_an_append_behind_the_commit_index_is_answered_with_it() -> None:
    """M6: the leader learns how far this node is, and nothing is cut."""
    network = Network.of(3)
    network.elect(1)
    network.propose(1, "a")
    old = Msg(type="App", frm=1, to=2, term=2, log_term=1, index=1, entries=(), commit=1)
    network.node(2).step(old)
    (answer,) = network.node(2).ready().messages
    assert (answer.reject, answer.index) == (False, 3)


def test_a_heartbeat_commits_only_what_is_known_to_match() -> None:
    """M5: the tail of a follower may still differ from the leader's."""
    network = Network.of(3)
    give_log(network, 3, [1, 1, 1], term=1)
    network.isolate(3)
    network.elect(1)
    network.propose(1, "a", "b")
    network.heal()
    network.tick(1)
    beat = [one for one in network.node(1).ready().messages if one.to == 3]
    assert [(one.type, one.commit) for one in beat] == [("Heartbeat", 0)]


def test_proposals_go_to_the_leader_only() -> None:
    """A forwarded proposal could be appended twice: the client is redirected instead."""
    network = Network.of(3, pre_vote=True)
    with pytest.raises(ProposalDropped):
        network.node(1).propose(b"x")
    network.elect(1)
    with pytest.raises(ProposalDropped):
        network.node(2).propose(b"x")
    network.node(3).campaign()
    with pytest.raises(ProposalDropped):
        network.node(3).propose(b"x")
    assert not [one for one in network.journal if one.type == "Prop"]


def test_local_messages_and_strangers_are_refused() -> None:
    """What comes from the network may not act as this node itself, nor as a member."""
    network = Network.of(3)
    for kind in ("Hup", "Beat", "CheckQuorum", "Unreachable", "SnapStatus"):
        with pytest.raises(StepLocalMsg):
            network.node(1).step(Msg(type=kind, frm=2, to=1))  # type: ignore[arg-type]
    for kind in ("AppResp", "VoteResp", "PreVoteResp", "HeartbeatResp", "ReadIndexResp"):
        with pytest.raises(StepPeerNotFound):
            network.node(1).step(Msg(type=kind, frm=9, to=1, term=99))  # type: ignore[arg-type]
    assert network.node(1).term == 1


def test_one_append_holds_no_more_than_its_limit() -> None:
    """And a limit on what is unanswered stops the stream."""
    size = entry_size(Entry(data=b"12345678"))
    network = Network.of(2, max_size_per_msg=2 * size, max_inflight=3)
    network.elect(1)
    for _ in range(10):
        network.node(1).propose(b"12345678")
    sent = [one for one in network.node(1).ready().messages if one.type == "App"]
    assert [len(one.entries) for one in sent if one.entries] == [1, 1, 1]
    status = network.node(1).status().progress[2]
    assert (status.inflight, status.inflight_full, status.paused) == (3, True, True)


def test_a_follower_that_comes_back_is_caught_up_in_limited_appends() -> None:
    """Everything arrives, several entries at a time, without waiting for ticks."""
    size = entry_size(Entry(data=b"00"))
    network = Network.of(3, max_size_per_msg=4 * size, max_inflight=2)
    network.elect(1)
    network.isolate(3)
    values = [f"{n:02}" for n in range(40)]
    network.propose(1, *values)
    network.heal()
    network.journal.clear()
    network.beat(1)
    assert network.members[3].values() == values
    filled = [len(one.entries) for one in network.journal if one.type == "App" and one.entries]
    assert max(filled) == 4


def test_committed_entries_are_handed_over_within_their_limit() -> None:
    """And nothing more before advance."""
    size = entry_size(Entry(data=b"00"))
    network = Network.of(1, max_committed_size_per_ready=2 * size)
    network.elect(1)
    for n in range(5):
        network.node(1).propose(b"%02d" % n)
    network.process(1)
    counts = []
    while network.node(1).has_ready():
        counts.append(len(network.process(1).committed))
    assert counts == [2, 2, 1]


def test_without_a_quorum_the_tail_stays_small() -> None:
    """Proposals are dropped above the limit, and let in again once the quorum is back."""
    network = Network.of(3, max_uncommitted_size=10)
    network.elect(1)
    network.isolate(1)
    network.propose(1, "123456789", "1")
    with pytest.raises(ProposalDropped):
        network.node(1).propose(b"2")
    network.node(1).propose(b"")
    network.heal()
    network.beat(2)
    network.propose(1, "3")
    assert network.members[3].values()[-1] == "3"


def test_an_unreachable_follower_is_probed_again() -> None:
    """What was streamed to it is probably lost."""
    network = Network.of(3)
    network.elect(1)
    network.propose(1, "a")
    assert network.node(1).status().progress[2].state == "replicate"
    network.node(1).report_unreachable(2)
    assert network.node(1).status().progress[2].state == "probe"
    network.beat(1)
    assert network.node(1).status().progress[2].state == "replicate"


def test_soft_and_hard_state_are_told_when_they_change() -> None:
    """And nothing is asked for when nothing changed."""
    network = Network.of(1)
    assert not network.node(1).has_ready()
    network.node(1).campaign()
    assert network.process(1).soft == (0, "candidate")
    assert network.process(1).soft == (1, "leader")
    ready = network.process(1)
    assert (ready.soft, ready.hard, ready.must_sync) == (None, Hard(2, 1, 2), False)
    assert not network.node(1).has_ready()


def test_messages_may_be_stepped_while_the_disk_works() -> None:
    """Between ready and advance a newer leader replaces the tail that is being stored."""
    network = Network.of(3)
    follower = network.node(3)
    entries = (Entry(term=2, index=2, data=b"old"), Entry(term=2, index=3, data=b"old"))
    follower.step(Msg(type="App", frm=1, to=3, term=2, log_term=1, index=1, entries=entries))
    network.begin(3)
    newer = (Entry(term=3, index=2, data=b"new"),)
    follower.step(
        Msg(type="App", frm=2, to=3, term=3, log_term=1, index=1, entries=newer, commit=2)
    )
    network.finish(3)
    ready = network.process(3)
    assert [entry.data for entry in ready.entries] == [b"new"]
    assert [entry.data for entry in ready.committed] == [b"new"]
    assert log_terms(network, 3) == [3]


def test_a_second_ready_waits_for_advance() -> None:
    """Two at once would let the caller conclude them in the wrong order."""
    network = Network.of(1)
    network.node(1).campaign()
    ready = network.node(1).ready()
    with pytest.raises(AssertionError):
        network.node(1).ready()
    network.node(1).advance(ready)
    with pytest.raises(AssertionError):
        network.node(1).advance(ready)


def test_values_travel_as_msgpack() -> None:
    """What peers and stores write can be read back, and unknown types are refused."""
    entry = Entry(term=1, index=2, type="conf2", data=b"v1")
    conf = ConfState(voters=(1, 2), learners=(3,), auto_leave=True)
    snapshot = Snapshot(index=7, term=3, conf=conf, data=b"\x00\xff")
    message = Msg(
        type="Snap", frm=1, to=2, term=3, entries=(entry,), snapshot=snapshot, context=b"c"
    )
    for value in (entry, conf, snapshot, message, Hard(1, 2, 3)):
        packed = msgspec.msgpack.encode(value)
        assert msgspec.msgpack.decode(packed, type=type(value)) == value
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode({"type": "Nonsense"}), type=Msg)
