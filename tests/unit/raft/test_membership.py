"""Proves membership changes, leadership transfer and snapshots, in a running network."""

from __future__ import annotations

import pytest
from tests.unit.raft.network import Network

from pgherd.raft.conformance import ConfState, Entry, Hard, Msg, ProposalDropped, Snapshot

SAFE = {"pre_vote": True, "check_quorum": True, "step_down_on_removal": True}


def conf_of(network: Network, node: int) -> ConfState:
    return network.node(node).status().conf


# -- one change at a time ------------------------------------------------------------------------


@pytest.mark.parametrize("v1", [True, False])
def test_a_node_joins_as_learner_and_is_promoted(v1: bool) -> None:
    """It is caught up before its vote is needed."""
    network = Network.of(1, **SAFE)
    network.elect(1)
    network.propose(1, "a")
    network.add(2, **SAFE)
    network.compact(1)
    network.change(1, ("l", 2), v1=v1)
    network.beat(1)
    assert network.members[2].values() == ["a"]
    assert conf_of(network, 2) == ConfState(voters=(1,), learners=(2,))
    network.change(1, ("v", 2), v1=v1)
    assert conf_of(network, 1) == conf_of(network, 2) == ConfState(voters=(1, 2))


def test_a_learner_that_hears_nobody_is_led_by_nobody() -> None:
    """It never stands for election, so nothing else would tell it that it is cut off."""
    network = Network.of(2, learners=(3,), **SAFE)
    network.elect(1)
    network.beat(1)
    learner = network.node(3)
    limit = 2 * network.members[3].config.election_tick
    network.isolate(3)
    network.tick(3, limit - 1)
    assert (learner.lead, learner.led_by) == (1, 1)
    network.tick(3)
    assert (learner.lead, learner.led_by) == (1, 0)
    network.heal()
    network.beat(1)
    assert learner.led_by == 1
    assert network.node(1).led_by == 1


def test_a_second_change_waits_for_the_first_to_be_applied() -> None:
    """It becomes an empty entry, without error."""
    network = Network.of(3)
    network.elect(1)
    network.node(1).propose_conf_change([("l", 4)])
    network.node(1).propose_conf_change([("l", 5)])
    network.run()
    assert conf_of(network, 1).learners == (4,)
    assert network.members[1].storage.log[-1].type == "normal"
    network.change(1, ("l", 5))
    assert conf_of(network, 1).learners == (4, 5)


def test_a_new_leader_changes_nothing_before_its_predecessors_log_is_applied() -> None:
    """M7: a change of its predecessor may be among what it has not applied yet."""
    network = Network.of(3)
    network.elect(1)
    network.node(1).propose_conf_change([("l", 4)])
    appends = [one for one in network.process(1).messages if one.to == 2]
    network.under_way = []
    network.crash(1)
    for message in appends:
        network.deliver(message)
    network.run()
    network.elect_without_commit(2)
    network.node(2).propose_conf_change([("r", 1)])
    network.run()
    assert conf_of(network, 2) == ConfState(voters=(1, 2, 3), learners=(4,))
    network.change(2, ("r", 1))
    assert conf_of(network, 2).voters == (2, 3)


def test_validation_can_be_left_to_the_caller() -> None:
    """disable_conf_change_validation lets a change through at any time."""
    network = Network.of(3, disable_conf_change_validation=True)
    network.elect(1)
    network.node(1).propose_conf_change([("l", 4)])
    network.node(1).propose_conf_change([("l", 5)])
    network.run()
    assert conf_of(network, 1).learners == (4, 5)


@pytest.mark.fault(56)
def test_a_removed_leader_steps_down_and_the_rest_goes_on() -> None:
    """M10: it keeps no power and disturbs nobody."""
    network = Network.of(3, **SAFE)
    network.elect(1)
    network.change(1, ("r", 1))
    assert (network.node(1).role, network.node(1).lead) == ("follower", 0)
    network.beat(40)
    leader = network.leader()
    assert leader in (2, 3)
    term = network.node(leader).term
    network.tick(1, 100)
    network.run()
    assert network.node(leader).term == term
    network.propose(leader, "on")
    assert network.members[2].values() == network.members[3].values() == ["on"]


def test_a_removed_leader_that_stays_does_not_count_itself() -> None:
    """Without step_down_on_removal it serves until another is elected, by others' votes."""
    network = Network.of(3)
    network.elect(1)
    network.change(1, ("r", 1))
    assert network.node(1).role == "leader"
    with pytest.raises(ProposalDropped):
        network.node(1).propose(b"x")
    assert 1 not in network.node(1).status().progress
    network.beat(3)
    assert network.node(2).lead == 1


def test_a_removed_node_that_does_not_know_it_disturbs_nobody() -> None:
    """It missed its removal and campaigns on: the others hear of their leader."""
    network = Network.of(4, **SAFE)
    network.elect(1)
    network.isolate(4)
    network.change(1, ("r", 4))
    network.beat(40)
    network.heal()
    term = network.node(1).term
    network.beat(40)
    assert (network.leader(), network.node(1).term) == (1, term)


def test_removing_a_silent_node_commits_what_waited_for_it() -> None:
    """The smaller quorum is in force when applied, and what it has is committed at once."""
    network = Network.of(2)
    network.elect(1)
    network.node(1).propose_conf_change([("r", 2)])
    network.node(1).propose(b"after")
    for message in network.process(1).messages:
        if message.index < 3 and len(message.entries) < 2:
            network.deliver(message)
    network.under_way = []
    network.process(2)
    network.run()
    assert network.members[1].values() == ["after"]


def test_a_change_survives_a_crash_before_it_is_applied() -> None:
    """M8: configuration is what the applied entries say, no more and no less."""
    network = Network.of(3)
    network.elect(1)
    network.change(1, ("l", 4))
    network.crash(2)
    network.restart(2)
    assert conf_of(network, 2).learners == ()
    network.run()
    network.beat(1)
    assert conf_of(network, 2).learners == (4,)


# -- joint ---------------------------------------------------------------------------------------


def test_a_node_is_replaced_in_one_step() -> None:
    """The joint configuration is entered, agreed on by both halves, and left by itself."""
    network = Network.of(3, **SAFE)
    network.elect(1)
    network.add(4, **SAFE)
    network.change(1, ("v", 4), ("r", 3))
    network.beat(2)
    assert conf_of(network, 1) == conf_of(network, 4) == ConfState(voters=(1, 2, 4))


def test_an_explicit_change_is_left_by_hand() -> None:
    """And nothing else is let in before."""
    network = Network.of(3)
    network.elect(1)
    network.change(1, ("r", 3), transition="explicit")
    joint = ConfState(voters=(1, 2), voters_outgoing=(1, 2, 3))
    assert conf_of(network, 1) == joint
    network.change(1, ("l", 5))
    assert conf_of(network, 1) == joint
    network.change(1)
    assert conf_of(network, 1) == ConfState(voters=(1, 2))
    network.change(1)
    assert conf_of(network, 1) == ConfState(voters=(1, 2))


def test_a_joint_configuration_needs_both_halves() -> None:
    """Neither the new nor the old majority commits alone."""
    network = Network.of(3)
    network.elect(1)
    for node in (4, 5):
        network.add(node)
    network.compact(1)
    network.change(1, ("v", 4), ("v", 5), ("r", 2), ("r", 3), transition="explicit")
    network.beat(2)
    network.crash(4)
    network.crash(5)
    network.propose(1, "x")
    assert network.members[1].values() == []
    network.restart(4)
    network.beat(2)
    assert network.members[1].values() == ["x"]


# -- transfer ------------------------------------------------------------------------------------


def test_leadership_is_handed_over_without_waiting() -> None:
    """Row 10 of FAULTS.md: also against pre-vote and check_quorum."""
    network = Network.of(3, **SAFE)
    network.elect(1)
    network.node(1).transfer_leader(2)
    network.run()
    assert (network.leader(), network.node(1).role) == (2, "follower")


def test_a_follower_passes_the_request_on() -> None:
    """Whoever is asked."""
    network = Network.of(3)
    network.elect(1)
    network.node(3).transfer_leader(2)
    network.run()
    assert network.leader() == 2


def test_a_target_is_caught_up_first_and_proposals_wait() -> None:
    """The transfer ends when the target has the whole log."""
    network = Network.of(3)
    network.elect(1)
    network.isolate(3)
    network.propose(1, "a")
    network.node(1).transfer_leader(3)
    with pytest.raises(ProposalDropped):
        network.node(1).propose(b"b")
    network.heal()
    network.beat(1)
    assert network.leader() == 3
    assert network.members[3].values() == ["a"]


def test_a_transfer_is_given_up_after_an_election_timeout() -> None:
    """A dead target does not stop the cluster."""
    network = Network.of(3)
    network.elect(1)
    network.crash(3)
    network.propose(1, "a")
    network.node(1).transfer_leader(3)
    network.beat(10)
    network.propose(1, "b")
    assert network.members[2].values() == ["a", "b"]


@pytest.mark.parametrize("target", [1, 4, 9])
def test_learners_strangers_and_oneself_are_no_targets(target: int) -> None:
    """The request is ignored, and proposals go on."""
    network = Network.of(3, learners=(4,))
    network.elect(1)
    network.node(1).transfer_leader(target)
    network.propose(1, "a")
    assert network.leader() == 1
    assert network.members[2].values() == ["a"]


def test_another_target_replaces_the_first_and_a_removed_one_is_dropped() -> None:
    """Whoever was asked for last."""
    network = Network.of(3)
    network.elect(1)
    network.crash(3)
    network.propose(1, "a")
    network.node(1).transfer_leader(3)
    network.node(1).transfer_leader(2)
    network.run()
    assert network.leader() == 2
    network.node(2).propose_conf_change([("r", 3)])
    network.node(2).transfer_leader(3)
    network.run()
    network.propose(2, "b")
    assert network.members[1].values() == ["a", "b"]


def test_a_removed_node_told_to_stand_does_not() -> None:
    """TimeoutNow to a node that is a learner by now."""
    network = Network.of(2, learners=(3,))
    network.node(3).step(Msg(type="TimeoutNow", frm=1, to=3, term=1))
    assert network.node(3).role == "follower"


# -- snapshots -----------------------------------------------------------------------------------


@pytest.mark.fault(59)
def test_a_follower_behind_the_log_gets_a_snapshot() -> None:
    """State and configuration arrive, then the rest of the log."""
    network = Network.of(3)
    network.elect(1)
    network.isolate(3)
    network.propose(1, "a", "b")
    network.change(1, ("l", 4))
    network.compact(1)
    network.propose(1, "c")
    network.heal()
    network.beat(2)
    assert network.members[3].values() == ["a", "b", "c"]
    assert conf_of(network, 3).learners == (4,)
    assert network.node(1).status().progress[3].state == "replicate"


def test_no_snapshot_to_a_node_that_does_not_answer() -> None:
    """It is sent once the node is heard of again."""
    network = Network.of(3, check_quorum=True)
    network.elect(1)
    network.crash(3)
    network.propose(1, "a")
    network.beat(20)
    network.compact(1)
    network.node(1).report_unreachable(3)
    network.journal.clear()
    network.beat(5)
    assert not [one for one in network.journal if one.type == "Snap"]
    network.restart(3)
    network.beat(2)
    assert network.members[3].values() == ["a"]


@pytest.mark.parametrize("ok", [True, False])
def test_a_reported_snapshot_ends_the_waiting(ok: bool) -> None:
    """M17: progress does not stay in the snapshot state for ever."""
    network = Network.of(3)
    network.elect(1)
    network.isolate(3)
    network.propose(1, "a")
    network.compact(1)
    network.heal()
    network.tick(1)
    while not any(one.type == "Snap" for one in network.under_way):
        messages, network.under_way = network.under_way, []
        for message in messages:
            network.deliver(message)
        for node in network.members:
            if network.node(node).has_ready():
                network.process(node)
    network.under_way = []
    assert network.node(1).status().progress[3].state == "snapshot"
    network.node(1).report_snapshot(3, ok)
    assert network.node(1).status().progress[3].state == "probe"
    network.beat(3)
    assert network.members[3].values() == ["a"]


def test_old_and_foreign_snapshots_are_not_taken() -> None:
    """M17: nothing goes back, and a node does not take a state that does not know it."""
    network = Network.of(3)
    network.elect(1)
    network.propose(1, "a")
    commit = network.node(2).commit
    for snapshot in (
        Snapshot(index=commit, term=2, conf=conf_of(network, 2)),
        Snapshot(index=commit + 5, term=2, conf=ConfState(voters=(1, 3))),
    ):
        network.node(2).step(Msg(type="Snap", frm=1, to=2, term=2, snapshot=snapshot))
        ready = network.begin(2)
        assert ready.snapshot is None
        assert [(one.type, one.index) for one in ready.messages] == [("AppResp", commit)]
        network.finish(2)


def test_a_snapshot_of_what_is_in_the_log_only_commits() -> None:
    """The log behind it is kept: it may hold acknowledged entries."""
    network = Network.of(3)
    node = network.node(2)
    entries = tuple(Entry(term=2, index=index) for index in (2, 3, 4))
    node.step(Msg(type="App", frm=1, to=2, term=2, log_term=1, index=1, entries=entries))
    network.process(2)
    snapshot = Snapshot(index=3, term=2, conf=conf_of(network, 2))
    node.step(Msg(type="Snap", frm=1, to=2, term=2, snapshot=snapshot))
    ready = network.process(2)
    assert (ready.snapshot, ready.hard) == (None, Hard(2, 0, 3))
    assert network.members[2].storage.last_index() == 4


def test_a_snapshot_is_stored_before_it_is_acknowledged_and_no_campaign_meanwhile() -> None:
    """Decision 6: a node whose state is not there yet must not lead."""
    network = Network.of(3)
    node = network.node(2)
    snapshot = Snapshot(index=9, term=2, conf=conf_of(network, 2))
    node.step(Msg(type="Snap", frm=1, to=2, term=2, snapshot=snapshot))
    node.campaign()
    assert node.role == "follower"
    ready = network.begin(2)
    assert ready.snapshot == snapshot
    assert [(one.type, one.index) for one in ready.messages] == [("AppResp", 9)]
    network.finish(2)
    node.campaign()
    assert node.role == "candidate"


def test_everything_survives_a_full_restart() -> None:
    """All nodes down, then up: what was applied is applied again, nothing else."""
    network = Network.of(3, **SAFE)
    network.elect(1)
    network.propose(1, "a", "b")
    network.compact(2)
    network.change(1, ("l", 4))
    for node in (1, 2, 3):
        network.crash(node)
    for node in (1, 2, 3):
        network.restart(node)
    network.run()
    network.elect(3)
    network.propose(3, "c")
    for node in (1, 2, 3):
        assert network.members[node].values() == ["a", "b", "c"]
        assert conf_of(network, node).learners == (4,)
