"""The decisions of RAFT.md 4 that no other test compares whole: every message of every Ready.

One node, told what its peers said; the numbers in the names are the decisions.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import pytest
from tests.unit.raft.network import Network

from pgherd.raft import conformance
from pgherd.raft.conformance import (
    ConfChangeError,
    ConfState,
    Entry,
    Hard,
    Msg,
    ProposalDropped,
    Ready,
    Snapshot,
    StepPeerNotFound,
    change_conf,
)

TICKS = 10


class One:
    """Node 1 of a group whose other members exist only in what is told of them."""

    def __init__(self, voters: int = 3, *, learners: Sequence[int] = (), **config: object) -> None:
        self.network = Network.of(voters, learners=learners, **config)
        self.node = self.network.node(1)

    def hears(self, kind: str, frm: int, **fields: object) -> None:
        """A message arrives."""
        term = fields.pop("term", self.node.term)
        self.node.step(Msg(type=kind, frm=frm, to=1, term=term, **fields))  # type: ignore[arg-type]

    def ready(self) -> Ready:
        """Handle one Ready."""
        return self.network.process(1)

    def says(self) -> list[Msg]:
        """What all Readys send until there is none."""
        said: list[Msg] = []
        while self.node.has_ready():
            said.extend(self.ready().messages)
        return said

    def leads(self) -> One:
        """Elected, its first entry stored everywhere: everyone streams."""
        self.node.campaign()
        self.ready()
        for peer in self.peers():
            self.hears("VoteResp", peer)
        self.says()
        for peer in self.peers():
            self.hears("AppResp", peer, index=2)
        self.says()
        assert self.node.role == "leader"
        return self

    def follows(self, leader: int = 2, *, term: int = 2) -> One:
        """A follower that has just heard of a leader."""
        self.hears("Heartbeat", leader, term=term)
        self.says()
        return self

    def peers(self) -> list[int]:
        return [node for node in self.network.members if node != 1]


FIELDS = {
    conformance.Entry: "term index type data",
    conformance.ConfState: "voters learners voters_outgoing learners_next auto_leave",
    conformance.Snapshot: "index term conf data",
    conformance.Msg: "type frm to term log_term index entries commit vote reject reject_hint "
    "snapshot context",
    conformance.Ready: "soft hard must_sync entries snapshot committed messages read_states",
    conformance.Status: "id role term vote lead commit applied conf progress",
}
DEFAULTS = {
    "election_tick": 3,
    "heartbeat_tick": 1,
    "pre_vote": False,
    "check_quorum": False,
    "max_inflight": 2**31 - 1,
    "max_size_per_msg": None,
    "max_committed_size_per_ready": None,
    "step_down_on_removal": False,
    "read_only": "safe",
    "disable_conf_change_validation": False,
    "applied": 0,
}
ARGUMENTS = {
    "step": "msg",
    "tick": "",
    "campaign": "",
    "propose": "data",
    "propose_conf_change": "ops v1 transition",
    "apply_conf_change": "ops transition",
    "has_ready": "",
    "ready": "",
    "advance": "rd",
    "status": "",
    "transfer_leader": "to",
    "forget_leader": "",
    "read_index": "ctx",
    "report_unreachable": "id",
    "report_snapshot": "id ok",
    "set_randomized_election_timeout": "ticks",
}


def test_the_namespace_is_the_agreed_one() -> None:
    """A driver that was written elsewhere finds every name, field, default and argument."""
    for kind, fields in FIELDS.items():
        assert kind.__struct_fields__ == tuple(fields.split())
    config = conformance.Config(id=1, rng=lambda low, high: low)
    assert {name: getattr(config, name) for name in DEFAULTS} == DEFAULTS
    for name, words in ARGUMENTS.items():
        method = getattr(conformance.RaftNode, name)
        assert list(inspect.signature(method).parameters) == ["self", *words.split()]
    begin = inspect.signature(conformance.RaftNode).parameters
    assert list(begin) == ["cfg", "storage", "log"]
    assert begin["log"].default is None
    progress = conformance.Progress(match=1, window=(4, 5), inflight_max=2, flow_paused=True)
    read = "match next state learner paused pending_snapshot active inflight inflight_full"
    found = [getattr(progress, name) for name in read.split()]
    assert found == [1, 1, "probe", False, True, 0, False, 2, True]
    assert Msg(type="App").responses == ()
    assert issubclass(conformance.Compacted, LookupError)
    assert issubclass(conformance.Unavailable, LookupError)
    assert issubclass(ConfChangeError, ValueError)
    assert Hard(3, 2, 1) == (3, 2, 1)


def test_1_terms_of_votes() -> None:
    """A pre-vote names the term to come and leaves the own; refusals carry the own term."""
    one = One(pre_vote=True)
    one.node.campaign()
    ask = {"frm": 1, "term": 2, "index": 1, "log_term": 1}
    assert one.says() == [Msg(type="PreVote", to=2, **ask), Msg(type="PreVote", to=3, **ask)]
    assert one.node.term == 1
    one.hears("PreVote", 2, term=9, index=1, log_term=1)
    one.hears("PreVote", 3, term=9, index=0, log_term=0)
    assert one.says() == [
        Msg(type="PreVoteResp", frm=1, to=2, term=9),
        Msg(type="PreVoteResp", frm=1, to=3, term=1, reject=True),
    ]
    assert one.node.term == 1


def test_2_a_leader_is_protected_for_the_least_timeout_only() -> None:
    """Not for the randomized one; and a request marked by a transfer goes through."""
    one = One(check_quorum=True).follows()
    one.node.set_randomized_election_timeout(2 * TICKS)
    one.network.tick(1, TICKS - 1)
    one.hears("Vote", 3, term=5, index=9, log_term=2)
    assert one.says() == []
    assert one.node.term == 2
    one.hears("Vote", 3, term=5, index=9, log_term=2, context=b"transfer")
    assert one.says() == [Msg(type="VoteResp", frm=1, to=3, term=5)]
    one.follows(3, term=5)
    one.node.set_randomized_election_timeout(2 * TICKS)
    one.network.tick(1, TICKS)
    one.hears("Vote", 2, term=6, index=9, log_term=2)
    assert one.says() == [Msg(type="VoteResp", frm=1, to=2, term=6)]


@pytest.mark.parametrize("flag", ["check_quorum", "pre_vote", ""])
@pytest.mark.parametrize("kind", ["App", "Heartbeat", "Snap", "Vote", "PreVote", "TimeoutNow"])
def test_3_older_terms(flag: str, kind: str) -> None:
    """Appends and heartbeats are answered under either guard, pre-votes always, others never."""
    one = One(**{flag: True} if flag else {}).follows(term=7)
    one.hears(kind, 3, term=3, index=1, log_term=1)
    if kind in ("App", "Heartbeat") and flag:
        assert one.says() == [Msg(type="AppResp", frm=1, to=3, term=7)]
    elif kind == "PreVote":
        assert one.says() == [Msg(type="PreVoteResp", frm=1, to=3, term=7, reject=True)]
    else:
        assert one.says() == []


def test_4_a_strangers_reply_is_refused_before_its_term_counts() -> None:
    one = One()
    with pytest.raises(StepPeerNotFound):
        one.hears("AppResp", 9, term=50, index=1)
    assert one.node.term == 1


def test_5_a_reset_forgets_what_was_known_of_others() -> None:
    """A leader starts with guesses of everyone, and its own log as its match."""
    one = One(learners=[4])
    one.node.campaign()
    one.ready()
    one.hears("VoteResp", 2)
    progress = one.node.status().progress
    assert (progress[1].match, progress[1].state, progress[1].active) == (1, "replicate", True)
    for node in (2, 3, 4):
        assert (progress[node].match, progress[node].next) == (0, 2)
        assert progress[node].state == "probe"
        assert not progress[node].active
        assert progress[node].learner == (node == 4)


def test_7_both_halves_are_asked_once_in_order() -> None:
    one = One(voters=2, learners=[5])
    for node in (3, 4):
        one.network.add(node)
    one.node.apply_conf_change([("r", 2), ("v", 4), ("v", 3)], "explicit")
    one.node.campaign()
    assert [message.to for message in one.says()] == [2, 3, 4]


def test_9_an_answer_counts_once_and_a_leader_of_the_term_ends_the_election() -> None:
    one = One(voters=5)
    one.node.campaign()
    one.ready()
    for _ in range(3):
        one.hears("VoteResp", 2)
    assert one.node.role == "candidate"
    one.hears("PreVoteResp", 3)
    assert one.node.role == "candidate"
    one.hears("Snap", 4, snapshot=Snapshot(index=1, term=1, conf=ConfState(voters=(1,))))
    assert (one.node.role, one.node.lead) == ("follower", 4)
    assert one.says() == [Msg(type="AppResp", frm=1, to=4, term=2, index=1)]


def test_10_and_24_a_new_leader_says_one_append_and_acknowledges_itself_later() -> None:
    one = One()
    one.node.campaign()
    one.ready()
    one.hears("VoteResp", 3)
    ready = one.ready()
    first = {"frm": 1, "term": 2, "index": 1, "log_term": 1, "commit": 1}
    entries = (Entry(term=2, index=2),)
    assert ready.messages == (
        Msg(type="App", to=2, entries=entries, **first),
        Msg(type="App", to=3, entries=entries, **first),
    )
    assert (ready.soft, ready.hard, ready.must_sync) == ((1, "leader"), None, True)
    assert ready.entries == entries
    assert one.node.status().progress[1].match == 2


def test_11_one_append_per_proposal_and_none_on_others() -> None:
    one = One().leads()
    one.node.propose(b"a")
    one.node.propose(b"b")
    said = one.ready().messages
    assert [(message.to, message.index, len(message.entries)) for message in said] == [
        (2, 2, 1),
        (3, 2, 1),
        (2, 3, 1),
        (3, 3, 1),
    ]
    follower = One().follows()
    with pytest.raises(ProposalDropped):
        follower.node.propose(b"c")
    with pytest.raises(ProposalDropped):
        follower.hears("Prop", 3, term=0, entries=(Entry(data=b"d"),))


@pytest.mark.parametrize("ops", [[], [("v", 4)]])
def test_12_a_refused_change_becomes_an_empty_entry(ops: list[tuple[str, int]]) -> None:
    """Leaving what is not joint, and a change while one is not applied."""
    one = One().leads()
    if ops:
        one.node.propose_conf_change([("l", 5)])
    one.node.propose_conf_change(ops)
    assert one.ready().entries[-1] == Entry(term=2, index=4 if ops else 3)


def test_13_a_full_window_stops_appends_and_a_heartbeat_reply_probes_it_empty() -> None:
    one = One(max_inflight=1).leads()
    one.node.propose(b"a")
    one.node.propose(b"b")
    assert [len(message.entries) for message in one.says() if message.to == 2] == [1]
    one.hears("HeartbeatResp", 2)
    assert one.says() == [Msg(type="App", frm=1, to=2, term=2, index=3, log_term=2, commit=2)]
    one.hears("HeartbeatResp", 2)
    assert len(one.says()) == 1


def test_15_an_acknowledgement_that_is_no_news_says_nothing() -> None:
    one = One().leads()
    one.hears("AppResp", 2, index=2)
    assert one.says() == []
    one.node.propose(b"a")
    one.says()
    one.hears("AppResp", 2, index=3)
    commit = {"frm": 1, "term": 2, "index": 3, "log_term": 2, "commit": 3}
    assert one.says() == [Msg(type="App", to=2, **commit), Msg(type="App", to=3, **commit)]
    one.hears("AppResp", 3, index=3)
    assert one.says() == []


def test_16_a_refusal_goes_back_by_terms_once() -> None:
    one = One().leads()
    one.node.propose(b"a")
    one.says()
    refusal = {"index": 3, "reject": True, "reject_hint": 9, "log_term": 1}
    one.hears("AppResp", 2, **refusal)
    # a stream starts again from the match, whatever the hint says
    assert one.says() == [
        Msg(
            type="App",
            frm=1,
            to=2,
            term=2,
            index=2,
            log_term=2,
            commit=2,
            entries=(Entry(term=2, index=3, data=b"a"),),
        )
    ]
    one.hears("AppResp", 2, **refusal)
    assert one.says() == []


def test_19_heartbeats_tell_no_more_than_the_match() -> None:
    one = One(learners=[4])
    one.node.campaign()
    one.ready()
    one.hears("VoteResp", 2)
    one.says()
    one.hears("AppResp", 2, index=2)
    one.says()
    one.network.tick(1)
    assert [(message.to, message.commit) for message in one.says()] == [(2, 2), (3, 0), (4, 0)]


def test_20_a_snapshot_that_was_reported_waits_for_a_sign_of_life() -> None:
    one = One().leads()
    one.node.propose(b"a")
    one.says()
    one.hears("AppResp", 2, index=3)
    one.says()
    one.network.compact(1)
    one.hears("AppResp", 3, index=2, reject=True, reject_hint=1, log_term=1)
    assert one.says() == []  # stale: it streams, and 2 is its match
    one.node.report_unreachable(3)
    one.hears("HeartbeatResp", 3)
    snap = one.says()
    assert [(message.type, message.to) for message in snap] == [("Snap", 3)]
    for ok, following in ((True, 4), (False, 3)):
        one.node.report_snapshot(3, ok)
        progress = one.node.status().progress[3]
        assert (progress.state, progress.next, progress.paused) == ("probe", following, True)
        one.hears("AppResp", 3, index=3, reject=True, reject_hint=2, log_term=2)
        one.says()


def test_21_a_refusal_names_the_last_entry_that_may_fit() -> None:
    one = One()
    entries = tuple(Entry(term=term, index=index) for index, term in ((2, 2), (3, 2), (4, 5)))
    one.hears("App", 2, term=5, index=1, log_term=1, entries=entries)
    assert one.says() == [Msg(type="AppResp", frm=1, to=2, term=5, index=4)]
    for index, log_term, hint, hint_term in (
        (4, 4, 3, 2),
        (9, 4, 3, 2),
        (9, 6, 4, 5),
        (2, 1, 1, 1),
    ):
        one.hears("App", 2, term=6, index=index, log_term=log_term)
        refusal = {"reject": True, "reject_hint": hint, "log_term": hint_term}
        assert one.says() == [Msg(type="AppResp", frm=1, to=2, term=6, index=index, **refusal)]


def test_22_a_heartbeat_commits_and_returns_its_context() -> None:
    one = One()
    one.hears("App", 2, term=2, index=1, log_term=1, entries=(Entry(term=2, index=2),))
    one.says()
    one.hears("Heartbeat", 2, commit=2, context=b"c")
    ready = one.ready()
    assert ready.messages == (Msg(type="HeartbeatResp", frm=1, to=2, term=2, context=b"c"),)
    assert (ready.hard, ready.must_sync) == (Hard(2, 0, 2), False)
    assert ready.committed == (Entry(term=2, index=2),)


def test_25_a_single_voter_needs_two_readys_and_hands_over_once() -> None:
    one = One(voters=1)
    one.node.campaign()
    first, second = one.ready(), one.ready()
    assert (first.soft, first.committed) == ((0, "candidate"), ())
    assert (second.soft, second.committed) == ((1, "leader"), ())
    assert second.entries == (Entry(term=2, index=2),)
    third = one.ready()
    assert (third.entries, third.committed) == ((), second.entries)
    assert (third.hard, third.must_sync) == (Hard(2, 1, 2), False)
    assert not one.node.has_ready()


def test_26_a_refusal_names_the_first_reason() -> None:
    joint = ConfState(voters=(1,), voters_outgoing=(2,))
    for conf, mode, code in (
        (joint, "simple", "simple-in-joint"),
        (joint, "enter", "already-joint"),
        (ConfState(), "enter", "empty-joint"),
        (ConfState(voters=(1, 2)), "leave", "not-joint"),
        (ConfState(voters=(1, 2, 3)), "simple", "no-voters"),
    ):
        with pytest.raises(ConfChangeError) as refused:
            change_conf(conf, {}, [("r", 1), ("r", 2), ("r", 3)], mode=mode, last_index=9)  # type: ignore[arg-type]
        assert refused.value.code == code


def test_27_a_joint_configuration_is_left_by_itself_after_a_transfer_in_between() -> None:
    one = One().leads()
    one.node.propose_conf_change([("v", 4), ("r", 3)])
    one.says()
    one.node.transfer_leader(2)
    for peer in (2, 3):
        one.hears("AppResp", peer, index=3)
    one.says()
    assert one.node.conf == ConfState(voters=(1, 2, 4), voters_outgoing=(1, 2, 3), auto_leave=True)
    one.network.tick(1, TICKS)  # the transfer is given up
    one.node.propose(b"a")
    one.says()
    for peer in (2, 3, 4):
        one.hears("AppResp", peer, index=4)
    ready = one.ready()
    assert ready.committed == (Entry(term=2, index=4, data=b"a"),)
    assert one.ready().entries == (Entry(term=2, index=5, type="conf2"),)


def test_28_and_29_the_quorum_check_comes_before_heartbeats() -> None:
    """Heard of both: it stays and beats, and everyone must be heard again; then it says nothing."""
    one = One(check_quorum=True).leads()
    one.network.tick(1, TICKS)
    assert len(one.says()) == 2 * TICKS
    assert not any(one.node.status().progress[peer].active for peer in (2, 3))
    one.network.tick(1, TICKS - 1)
    one.says()
    one.network.tick(1)
    assert (one.node.role, one.node.term, one.node.lead) == ("follower", 2, 0)
    assert one.says() == []


def test_30_a_transfer_is_a_word_to_the_target_and_its_requests_are_marked() -> None:
    one = One().leads()
    one.node.transfer_leader(3)
    one.node.transfer_leader(3)
    assert one.says() == [Msg(type="TimeoutNow", frm=1, to=3, term=2)]
    with pytest.raises(ProposalDropped):
        one.node.propose(b"a")
    told = One(pre_vote=True).follows()
    told.hears("TimeoutNow", 2)
    said = told.says()
    assert [(message.type, message.to, message.term) for message in said] == [
        ("Vote", 2, 3),
        ("Vote", 3, 3),
    ]
    assert all(message.context for message in said)
    asked = One().follows()
    asked.node.transfer_leader(3)
    assert asked.says() == [Msg(type="TransferLeader", frm=3, to=2, term=2)]


def test_31_forgetting_is_for_followers_without_a_lease() -> None:
    one = One(read_only="lease", check_quorum=True).follows()
    one.node.forget_leader()
    assert one.node.lead == 2
    leader = One().leads()
    leader.node.forget_leader()
    assert (leader.node.role, leader.node.lead) == ("leader", 1)
