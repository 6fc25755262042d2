"""Proves the steps of a return from amnesia, their order, and what each of them waits for."""

from __future__ import annotations

from typing import Any

from plan_values import (
    electing,
    facts,
    late,
    look,
    member,
    primary,
    promises,
    replace,
    report,
    sender,
    standby,
    sync,
)

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.model.facts import Facts, Mode, SyncState
from pgherd.model.ids import MemberKey, NodeId, RaftId
from pgherd.model.observation import Asking
from pgherd.plan import herd
from pgherd.plan.rule import Decision, Membership, Situation

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
ASKS = {N3: Asking("s9", RaftId(3))}
GONE = late(report(3, standby()))
STREAMS_ON = primary(senders=(sender(2), sender(3)))
"""The server of a node with amnesia goes on under its old name."""


def decide(seen: Situation) -> Decision:
    return herd.decide(seen.facts, view=seen.view, policy=seen.policy, now=seen.now)


def applied(known: Facts, decision: Decision) -> Facts:
    assert decision.command is not None, decision
    known, outcome = apply_command(known, decision.command, at_ms=1)
    assert isinstance(outcome, cmd.Done), outcome
    return known


def with_stores(known: Facts) -> Facts:
    members = {n: replace(m, store=f"s{m.raft_id}") for n, m in known.members.items()}
    return replace(known, members=members, next_raft_id=RaftId(4))


def seen(known: Facts, *reports: Any, **more: Any) -> Situation:
    return look(known, GONE, *reports, **{"asking": ASKS, **more})


def test_from_amnesia_to_a_vote() -> None:
    """Out of the sync set, a new Raft id, learner, the old id away, voter: one after the other."""
    known = with_stores(facts())
    waits = seen(known, report(1, STREAMS_ON))
    decision = decide(waits)
    assert decision.rule == 506, "no detection time is waited for: it said itself what it lost"
    known = applied(known, decision)
    done = report(1, replace(STREAMS_ON, names_generation=5, settled=5))
    known = applied(known, decide(seen(known, done)))
    assert [key.node for key in known.sync.voters] == [N2]
    decision = decide(seen(known, done))
    assert (decision.rule, decision.command) == (717, cmd.Readmit(N3, RaftId(3), "s9"))
    known = applied(known, decision)
    decision = decide(seen(known, done))
    assert decision.membership == Membership("learner", RaftId(4))
    voters, learners = (RaftId(1), RaftId(2), RaftId(3)), (RaftId(4),)
    back = report(3, standby(), promises(3, incarnation="b3"), raft_id=RaftId(4))
    conf = {"raft_voters": voters, "raft_learners": learners, "asking": {}}
    decision = decide(look(known, done, back, **conf, caught_up=()))
    assert decision.command == cmd.RegisterIncarnation(N3, "b3")
    known = applied(known, decision)
    decision = decide(look(known, done, back, **conf, caught_up=()))
    assert decision.membership == Membership("remove", RaftId(3))
    conf = {"raft_voters": voters[:2], "raft_learners": learners}
    decision = decide(look(known, done, back, **conf, caught_up=learners))
    assert decision.membership == Membership("voter", RaftId(4))


def test_it_is_not_taken_back_while_commits_can_do_without_it() -> None:
    """Its old name in V is one that an election may have to seal, and never will."""
    known = with_stores(facts(sync=sync(2, 3, generation=4, names_k=1)))
    half = report(1, replace(STREAMS_ON, names_generation=3))
    decision = decide(seen(known, half, names_since=100_000))
    assert decision.rule == 506


def test_where_it_is_needed_its_new_name_replaces_the_old() -> None:
    """The only synchronous copy, in either mode: it comes back first, so that k is kept."""
    for mode in (Mode.QUORUM, Mode.STRICT):
        known = with_stores(facts(sync=sync(3), mode=mode, num_sync=1))
        only = report(1, primary(senders=(sender(3),)))
        decision = decide(seen(known, only))
        assert isinstance(decision.command, cmd.Readmit), decision
        assert applied(known, decision).sync.voters == known.sync.voters


def test_the_only_voters_new_copy_is_written_down_in_the_election_too() -> None:
    """Only then does it show that the old leader alone has everything, and may return."""
    known = with_stores(electing(sync=sync(3)))
    asks = {N1: Asking("s9", RaftId(1))}
    gone = late(report(1, STREAMS_ON))
    anew = report(3, standby(), promises(3, incarnation="b3"))
    waits = decide(look(known, gone, report(3, standby()), asking=asks))
    assert waits.command is None, "n3 may still seal under the name that V has"
    decision = decide(look(known, gone, anew, asking=asks))
    assert decision.command == cmd.RegisterIncarnation(N3, "b3"), decision
    known = applied(known, decision)
    decision = decide(look(known, gone, anew, asking=asks))
    assert decision.command == cmd.Readmit(N1, RaftId(1), "s9"), decision
    assert applied(known, decision).members[N1].incarnation == known.members[N1].incarnation


def obstacle(known: Facts, *reports: Any, **more: Any) -> str:
    decision = decide(seen(known, *reports, **more))
    assert decision.command is None or isinstance(decision.command, cmd.ChangeSync), decision
    return decision.reason


def test_what_it_is_told() -> None:
    """The reason reaches people; the first that applies."""
    known = with_stores(facts(sync=sync(2)))
    alone = report(1, primary(senders=(sender(2),)))
    alive = report(3, standby())
    assert "a daemon that calls itself n3 reports as Raft id 3" in obstacle(known, alone, alive)
    other = {N3: Asking("s9", RaftId(8))}
    assert "it was Raft id 8, and n3 is 3 now" in obstacle(known, alone, asking=other)
    gone = replace(known, members={n: m for n, m in known.members.items() if n != N3})
    assert "n3 is no member" in obstacle(gone, alone, raft_voters=(RaftId(1), RaftId(2)))


def test_a_returned_one_asks_no_more() -> None:
    """A question that was on its way when the answer came is none."""
    known = with_stores(facts())
    answered = {N3: Asking("s3", RaftId(3))}
    assert decide(look(known, asking=answered)).rule not in (717, 718)


def test_a_report_of_before_names_no_copy() -> None:
    """Its old incarnation must not be registered as its new one by a report on its way."""
    known = with_stores(facts(sync=sync(2)))
    known = applied(known, Decision(717, "", cmd.Readmit(N3, RaftId(3), "s9")))
    conf = {"raft_voters": (RaftId(1), RaftId(2), RaftId(3)), "raft_learners": (RaftId(4),)}
    before = report(3, standby())
    alone = report(1, primary(senders=(sender(2),)))
    decision = decide(look(known, alone, before, **conf, caught_up=()))
    assert not isinstance(decision.command, cmd.RegisterIncarnation)
    assert known.members[N3].incarnation == ""


def test_the_only_holder_is_taken_back_during_the_election() -> None:
    """n1 led alone, lost its store and its election waits for n1: it keeps its copy, and learns."""
    known = with_stores(electing(sync=SyncState(generation=7)))
    asking = {N1: Asking("s9", RaftId(1))}
    dead = late(report(1, primary()))
    decision = decide(look(known, dead, asking=asking))
    assert decision.command == cmd.Readmit(N1, RaftId(1), "s9")
    known = applied(known, decision)
    assert known.leader == MemberKey(N1, "a1")
    decision = decide(look(known, dead, asking=asking))
    assert decision.membership == Membership("learner", known.members[N1].raft_id)


def test_the_old_id_stays_while_the_rest_could_not_go_on() -> None:
    """Two of three voters answer: without the lost one both must, and one does not."""
    known = facts(members={**facts().members, N3: member(3, raft_id=RaftId(4))})
    known = replace(known, next_raft_id=RaftId(5), sync=sync(2))
    alone = report(1, primary(senders=(sender(2),)))
    conf = {"raft_voters": (RaftId(1), RaftId(2), RaftId(3)), "raft_learners": (RaftId(4),)}
    quiet = late(report(2, standby()))
    back = report(3, standby(), raft_id=RaftId(4))
    decision = decide(look(with_ids(known), alone, quiet, back, me=1, **conf, caught_up=()))
    assert decision.membership is None
    decision = decide(look(with_ids(known), alone, back, me=1, **conf, caught_up=()))
    assert decision.membership == Membership("remove", RaftId(3))


def with_ids(known: Facts) -> Facts:
    members = {n: replace(m, store=f"s{m.raft_id}") for n, m in known.members.items()}
    return replace(known, members=members)
