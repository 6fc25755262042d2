"""Proves elections: who may win, who votes, and what the protections of a good leader do."""

from __future__ import annotations

import pytest
from tests.unit.raft.network import Network

from pgherd.raft.conformance import Entry, Hard, Msg, Ready

SAFE = {"pre_vote": True, "check_quorum": True}


def replies(network: Network, node: int) -> list[Msg]:
    """What one Ready of a node sends, without putting it on its way."""
    member = network.members[node]
    ready = network.begin(node)
    member.pending = None
    member.apply(ready)
    member.node.advance(ready)
    return list(ready.messages)


def test_a_node_starts_as_follower_and_stands_after_its_timeout() -> None:
    """Paper 5.2: a follower that hears nothing increments its term and asks for votes."""
    network = Network.of(3)
    network.tick(1, 9)
    assert network.node(1).role == "follower"
    network.tick(1)
    assert network.node(1).role == "candidate"
    assert network.node(1).status().vote == 1
    sent = replies(network, 1)
    assert [(one.type, one.to, one.term, one.index, one.log_term) for one in sent] == [
        ("Vote", 2, 2, 1, 1),
        ("Vote", 3, 2, 1, 1),
    ]


def test_timeouts_are_drawn_anew_for_each_campaign() -> None:
    """Split votes end because candidates wait differently (paper 5.2)."""
    drawn = iter([3, 7, 0, 5, 5, 5])
    network = Network(lambda low, high: next(drawn))
    conf = Network.of(3).members[1].storage.conf
    network.add(1, conf)
    for expected in (13, 17, 10):
        before = network.node(1).term
        network.tick(1, expected - 1)
        assert network.node(1).term == before
        network.tick(1)
        assert network.node(1).term == before + 1


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_a_majority_elects_and_a_minority_does_not(size: int) -> None:
    """Paper 5.2, with as many nodes down as possible, and one more."""
    tolerated = (size - 1) // 2
    for down in range(size):
        network = Network.of(size)
        for node in range(size, size - down, -1):
            network.crash(node)
        network.node(1).campaign()
        network.run()
        expected = "leader" if down <= tolerated else "candidate"
        assert network.node(1).role == expected


def test_one_leader_per_term_when_votes_split() -> None:
    """Two candidates of the same term cannot both win."""
    network = Network.of(4)
    network.node(1).campaign()
    network.node(2).campaign()
    network.run()
    roles = [network.node(node).role for node in (1, 2)]
    assert roles.count("leader") <= 1


@pytest.mark.parametrize(
    ("vote", "asker", "granted"),
    [(0, 2, True), (2, 2, True), (3, 2, False)],
)
def test_one_vote_per_term_and_it_can_be_repeated(vote: int, asker: int, granted: bool) -> None:
    """Paper 5.2; a repeated request means that the answer was lost."""
    network = Network.of(3)
    network.members[1].storage.hard = Hard(5, vote, 1)
    network.restart(1)
    network.node(1).step(Msg(type="Vote", frm=asker, to=1, term=5, index=1, log_term=1))
    (answer,) = replies(network, 1)
    assert (answer.type, answer.reject, answer.term) == ("VoteResp", not granted, 5)


def test_a_vote_is_durable_before_it_is_said() -> None:
    """M1: the answer is in the Ready that stores the vote, and a restart remembers it."""
    network = Network.of(3)
    network.node(1).step(Msg(type="Vote", frm=2, to=1, term=4, index=1, log_term=1))
    ready = network.begin(1)
    assert ready.must_sync
    assert ready.hard == Hard(4, 2, 1)
    assert [one.type for one in ready.messages] == ["VoteResp"]
    network.crash(1)
    network.restart(1)
    network.node(1).step(Msg(type="Vote", frm=3, to=1, term=4, index=1, log_term=1))
    (answer,) = replies(network, 1)
    assert answer.reject


def test_an_unstored_vote_may_be_given_again() -> None:
    """A crash before storing: nobody heard of it, so it never was."""
    network = Network.of(3)
    network.node(1).step(Msg(type="Vote", frm=2, to=1, term=4, index=1, log_term=1))
    network.node(1).ready()
    network.restart(1)
    assert network.node(1).term == 1
    network.node(1).step(Msg(type="Vote", frm=3, to=1, term=4, index=1, log_term=1))
    (answer,) = replies(network, 1)
    assert not answer.reject


@pytest.mark.parametrize(
    ("term", "index", "granted"), [(3, 3, True), (3, 2, False), (2, 9, False), (4, 1, True)]
)
def test_votes_go_only_to_logs_at_least_as_new(term: int, index: int, granted: bool) -> None:
    """The election restriction (paper 5.4.1)."""
    network = Network.of(3)
    log = (Entry(term=3, index=2), Entry(term=3, index=3))
    network.members[1].storage.save(Ready(entries=log, hard=Hard(3, 0, 1)))
    network.restart(1)
    network.node(1).step(Msg(type="Vote", frm=2, to=1, term=5, index=index, log_term=term))
    (answer,) = replies(network, 1)
    assert answer.reject is not granted
    assert network.node(1).term == 5


def test_a_vote_delays_the_own_campaign_but_a_refusal_does_not() -> None:
    """A node that cannot win must not keep others from trying."""
    network = Network.of(3)
    network.tick(1, 9)
    network.node(1).step(Msg(type="Vote", frm=2, to=1, term=1, index=0, log_term=0))
    network.tick(1)
    assert network.node(1).role == "candidate"
    network.node(2).set_randomized_election_timeout(10)
    network.tick(2, 9)
    network.node(2).step(Msg(type="Vote", frm=3, to=2, term=1, index=1, log_term=1))
    network.tick(2)
    assert network.node(2).role == "follower"


@pytest.mark.parametrize("kind", ["App", "Heartbeat", "Snap"])
def test_a_candidate_yields_to_the_leader_of_its_term(kind: str) -> None:
    """Paper 5.2: the election is over."""
    network = Network.of(3)
    network.node(1).campaign()
    network.node(1).step(Msg(type=kind, frm=2, to=1, term=network.node(1).term))  # type: ignore[arg-type]
    assert (network.node(1).role, network.node(1).lead) == ("follower", 2)


def test_a_candidate_that_loses_follows_without_a_new_term() -> None:
    """Paper 5.2: enough refusals end the campaign."""
    network = Network.of(3)
    network.node(1).campaign()
    for node in (2, 3):
        network.node(1).step(Msg(type="VoteResp", frm=node, to=1, term=2, reject=True))
    assert (network.node(1).role, network.node(1).term) == ("follower", 2)


def test_the_first_answer_of_a_node_stands() -> None:
    """M12: neither a repeated grant nor a late change of mind counts twice."""
    network = Network.of(5)
    network.node(1).campaign()
    for _ in range(3):
        network.node(1).step(Msg(type="VoteResp", frm=2, to=1, term=2))
    network.process(1)
    assert network.node(1).role == "candidate"
    network.node(1).step(Msg(type="VoteResp", frm=3, to=1, term=2))
    assert network.node(1).role == "leader"


def test_the_own_vote_counts_only_when_it_is_stored() -> None:
    """M12: and not at all if the campaign is over by then."""
    network = Network.of(3)
    network.node(1).campaign()
    network.node(1).step(Msg(type="VoteResp", frm=2, to=1, term=2))
    assert network.node(1).role == "candidate"
    network.begin(1)
    network.node(1).step(Msg(type="Heartbeat", frm=3, to=1, term=3, commit=0))
    network.finish(1)
    assert (network.node(1).role, network.node(1).term) == ("follower", 3)


def test_a_newer_term_makes_everyone_a_follower() -> None:
    """Paper 5.1, for each role."""
    for role in ("follower", "candidate", "leader"):
        network = Network.of(3)
        if role == "leader":
            network.elect(1)
        elif role == "candidate":
            network.node(1).campaign()
        assert network.node(1).role == role
        network.node(1).step(Msg(type="App", frm=2, to=1, term=9, index=1, log_term=1))
        status = network.node(1).status()
        assert (status.role, status.term, status.lead) == ("follower", 9, 2)


def test_messages_of_older_terms_change_nothing() -> None:
    """Paper 5.1."""
    network = Network.of(3)
    network.elect(1)
    network.elect(2)
    before = network.node(1).status()
    for kind in ("App", "Heartbeat", "VoteResp", "Vote", "TimeoutNow"):
        network.node(1).step(Msg(type=kind, frm=3, to=1, term=1))  # type: ignore[arg-type]
    assert network.node(1).status() == before
    assert not network.node(1).has_ready()


# -- pre-vote ------------------------------------------------------------------------------------


def test_a_node_that_was_away_raises_no_term() -> None:
    """Row 57 of FAULTS.md: its return disturbs nobody."""
    network = Network.of(3, **SAFE)
    network.elect(1)
    term = network.node(1).term
    network.isolate(3)
    network.beat(50)
    assert network.node(3).role == "precandidate"
    assert network.node(3).term == term
    network.heal()
    network.beat(3)
    assert (network.node(3).role, network.node(3).lead) == ("follower", 1)
    assert (network.leader(), network.node(1).term) == (1, term)


def test_a_pre_vote_is_not_remembered() -> None:
    """Several may be told that they would win; only a real vote binds."""
    network = Network.of(3, **SAFE)
    for asker in (2, 3):
        network.node(1).step(Msg(type="PreVote", frm=asker, to=1, term=2, index=1, log_term=1))
    answers = replies(network, 1)
    assert [(one.type, one.term, one.reject) for one in answers] == [("PreVoteResp", 2, False)] * 2
    assert network.node(1).status().vote == 0
    assert network.node(1).term == 1


def test_answers_of_the_other_kind_do_not_count() -> None:
    """A late pre-vote answer must not elect a candidate."""
    network = Network.of(3, **SAFE)
    network.node(1).campaign()
    network.node(1).step(Msg(type="VoteResp", frm=2, to=1, term=1))
    assert network.node(1).role == "precandidate"
    network.process(1)
    network.node(1).step(Msg(type="PreVoteResp", frm=2, to=1, term=2))
    assert network.node(1).role == "candidate"
    network.node(1).step(Msg(type="PreVoteResp", frm=3, to=1, term=2))
    network.process(1)
    assert network.node(1).role == "candidate"


def test_a_pre_candidate_behind_in_term_is_told() -> None:
    """M11: it takes the newer term, and can be elected or follow."""
    network = Network.of(3, **SAFE)
    network.members[2].storage.hard = Hard(8, 0, 1)
    network.restart(2)
    network.node(1).campaign()
    network.run()
    assert network.node(1).term >= 8
    network.elect(1)


def test_a_candidate_stuck_at_a_higher_term_comes_back() -> None:
    """M11: the leader hears of that term through the answer to its heartbeat, and steps down."""
    network = Network.of(3, check_quorum=True)
    network.elect(1)
    network.isolate(3)
    for _ in range(3):
        network.node(3).campaign()
    network.run()
    high = network.node(3).term
    network.heal()
    network.beat(1)
    assert network.node(1).role == "follower"
    assert network.node(1).term == high
    network.beat(40)
    assert network.leader() != 0
    assert len({one.node.term for one in network.members.values()}) == 1


# -- check quorum --------------------------------------------------------------------------------


def test_a_leader_without_quorum_steps_down() -> None:
    """Within two election timeouts of hearing nobody."""
    network = Network.of(3, check_quorum=True)
    network.elect(1)
    network.isolate(1)
    network.tick(1, 20)
    assert (network.node(1).role, network.node(1).lead) == ("follower", 0)


def test_a_leader_with_a_quorum_stays() -> None:
    """One silent node, or silent learners, are no reason."""
    network = Network.of(3, learners=(4,), check_quorum=True)
    network.elect(1)
    network.crash(3)
    network.crash(4)
    network.beat(60)
    assert network.node(1).role == "leader"


def test_no_vote_while_a_leader_is_heard() -> None:
    """Partial partitions do not depose a good leader: no answer, no new term."""
    network = Network.of(3, check_quorum=True)
    network.elect(1)
    network.cut(1, 3)
    network.node(3).campaign()
    network.run()
    assert network.node(2).term == network.node(1).term
    assert network.node(1).role == "leader"
    assert network.node(3).role == "candidate"


def test_votes_are_given_once_the_leader_is_silent() -> None:
    """The protection ends after the shortest election timeout."""
    network = Network.of(3, check_quorum=True)
    network.elect(1)
    network.crash(1)
    network.tick(2, 9)
    network.node(3).campaign()
    network.run()
    assert network.node(3).role == "candidate"
    network.tick(2)
    network.node(2).set_randomized_election_timeout(100)
    network.node(3).campaign()
    network.run()
    assert network.node(3).role == "leader"


@pytest.mark.fault(27)
def test_partial_partition_keeps_electing_someone() -> None:
    """M21: every node but one is cut from the leader; the one in between can lead."""
    network = Network.of(5, **SAFE)
    network.elect(1)
    for one in range(1, 6):
        for other in range(one + 1, 6):
            if 3 not in (one, other):
                network.cut(one, other)
    for node in network.members:
        network.node(node).set_randomized_election_timeout(10 + node)
    network.beat(120)
    assert network.leader() == 3
    network.propose(3, "through-the-middle")
    assert network.members[5].values() == ["through-the-middle"]


# -- who may stand -------------------------------------------------------------------------------


def test_learners_do_not_stand_but_vote_when_asked() -> None:
    """M9, M23: a learner may have been promoted without knowing it."""
    network = Network.of(2, learners=(3,))
    network.tick(3, 30)
    assert network.node(3).role == "follower"
    network.node(3).step(Msg(type="Vote", frm=1, to=3, term=5, index=1, log_term=1))
    (answer,) = replies(network, 3)
    assert not answer.reject


def test_a_node_outside_every_configuration_does_not_stand() -> None:
    """A new node waits to be admitted."""
    network = Network.of(1)
    network.add(2)
    network.tick(2, 50)
    assert network.node(2).role == "follower"


def test_no_campaign_before_a_committed_change_is_applied() -> None:
    """Its quorum might be one of yesterday."""
    network = Network.of(3)
    network.elect(1)
    network.node(1).propose_conf_change([("v", 4)])
    network.process(1)
    network.run()
    follower = network.node(2)
    conf_entry = Entry(term=2, index=4, type="conf2", data=b"v5")
    follower.step(
        Msg(type="App", frm=1, to=2, term=2, index=3, log_term=2, entries=(conf_entry,), commit=4)
    )
    follower.campaign()
    assert follower.role == "follower"
    network.process(2)
    follower.campaign()
    assert follower.role == "candidate"


def test_forgetting_the_leader_makes_a_follower_ready_to_vote() -> None:
    """Same term, no leader: a peer that lost it too can be elected at once."""
    network = Network.of(3, **SAFE)
    network.elect(1)
    term = network.node(1).term
    for node in (1, 2, 3):
        network.node(node).forget_leader()
    assert [network.node(node).lead for node in (1, 2, 3)] == [1, 0, 0]
    network.elect(2)
    assert network.node(2).term == term + 1
