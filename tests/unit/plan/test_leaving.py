"""Proves the steps in which a member leaves, their order, and what each of them waits for."""

from __future__ import annotations

from plan_values import (
    facts,
    key,
    late,
    look,
    member,
    myself,
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
from pgherd.model import action as act
from pgherd.model.facts import Facts, Kind, Mode
from pgherd.model.ids import NodeId, RaftId
from pgherd.model.observation import Server, ServerSeen
from pgherd.plan import herd
from pgherd.plan import member as members
from pgherd.plan.rule import Decision, Membership, Situation

N2, N3 = NodeId("n2"), NodeId("n3")
IDS = (RaftId(1), RaftId(2), RaftId(3))


def decide(seen: Situation) -> Decision:
    return herd.decide(seen.facts, view=seen.view, policy=seen.policy, now=seen.now)


def asked(known: Facts, *nodes: NodeId) -> Facts:
    for node in nodes:
        known, outcome = apply_command(known, cmd.AskLeave(node, "ann"), at_ms=1)
        assert isinstance(outcome, cmd.Done), outcome
    return known


def applied(known: Facts, decision: Decision) -> Facts:
    assert decision.command is not None, decision
    known, outcome = apply_command(known, decision.command, at_ms=1)
    assert isinstance(outcome, cmd.Done), outcome
    return known


def test_from_the_wish_to_the_end() -> None:
    """Sync set, its barrier, consensus, ledger: one after the other, led by somebody who stays."""
    known = asked(facts(), N3)
    decision = decide(look(known))
    assert decision.rule == 506
    known = applied(known, decision)
    assert decide(look(known, report(1, primary(known)))).rule == 501, "waits for the barrier"
    done = report(1, primary(known, names_generation=5, settled=5))
    decision = decide(look(known, done))
    assert decision.rule == 501
    known = applied(known, decision)
    assert known.sync.voters == (key(2),)
    decision = decide(look(known, done))
    assert (decision.rule, decision.membership) == (704, Membership("remove", RaftId(3)))
    left = {"raft_voters": IDS[:2], "caught_up": IDS[:2]}
    decision = decide(look(known, done, **left))
    assert decision.command == cmd.RemoveMember(N3, RaftId(3))
    known = applied(known, decision)
    assert decide(look(known, done, **left)).rule == 900


def test_the_only_voter_leaves_by_degrading() -> None:
    """Of two members the replica may go in mode quorum at once, though it streams."""
    known = asked(replace(facts(sync=sync(2)), members=two()), N2)
    seen = look(known, report(1, primary(known, senders=(sender(2),))), raft_voters=IDS[:2])
    decision = decide(seen)
    assert decision.rule == 502
    assert isinstance(decision.command, cmd.ChangeSync)
    assert (decision.command.voters, decision.command.names) == ((), ())


def test_mode_strict_lets_go_of_what_num_sync_does_not_want_any_more() -> None:
    """Left from a larger herd, k is above num_sync: it falls so that the member can leave."""
    known = asked(facts(mode=Mode.STRICT, sync=sync(2, 3, k=2)), N3)
    decision = decide(look(known))
    assert decision.rule == 504
    assert isinstance(decision.command, cmd.ChangeSync)
    assert (decision.command.k, decision.command.names_k) == (1, 1)
    fixed = replace(known, num_sync=2)
    assert decide(look(fixed)).rule == 704, "two copies are wanted: it waits"


def two() -> dict[NodeId, object]:
    return {name: one for name, one in facts().members.items() if name != N3}


def test_a_leader_of_consensus_hands_over_first() -> None:
    """Removed by itself it would leave the other of two voters stuck; it never is."""
    known = replace(asked(facts(sync=sync(3)), N2))
    decision = decide(look(known))
    assert (decision.rule, decision.transfer_to) == (704, N3)
    alone = replace(facts(sync=sync()), members=two())
    decision = decide(look(asked(alone, N2), raft_voters=IDS[:2], caught_up=IDS[:2]))
    assert (decision.rule, decision.transfer_to) == (704, NodeId("n1")), "to the primary if need be"
    decision = decide(look(asked(alone, N2), me=1, raft_voters=IDS[:2], caught_up=IDS[:2]))
    assert decision.membership == Membership("remove", RaftId(2)), "801 does not hand it back"


def test_nobody_goes_when_the_rest_could_not_decide() -> None:
    """Without n3 both others must answer; a silent one blocks, and may itself go."""
    known = asked(facts(sync=sync(2)), N3)
    silent = late(report(2, standby()))
    decision = decide(look(known, silent, me=1))
    assert (decision.rule, decision.membership) == (704, None)
    gone = asked(facts(sync=sync(3)), N2)
    assert decide(look(gone, silent, me=3)).membership == Membership("remove", RaftId(2))


def test_a_leaving_member_is_nothing_new() -> None:
    """It is not made a learner again, nor a voter, nor counted for num_sync, nor picked."""
    known = asked(facts(sync=sync(2)), N3)
    assert decide(look(known, raft_voters=IDS[:2])).rule == 705
    waits = look(known, raft_voters=IDS[:2], raft_learners=IDS[2:])
    assert decide(waits).membership == Membership("remove", RaftId(3))
    witness = member(3, kind=Kind.WITNESS, incarnation="")
    plain = facts(sync=sync(2), members={**facts().members, N3: witness})
    known, _ = apply_command(plain, cmd.RequestSwitchover("s", None, "ann"), at_ms=1)
    known = asked(known, N2)
    decision = decide(look(known))
    assert decision.rule == 601
    assert "n2 is to leave" in decision.reason


def test_a_removed_node_stops_its_server_and_rests() -> None:
    """Whatever its own old ledger says; its data is left alone."""
    running = members.decide(myself(facts(), standby(), me=2, removed=True, caught_up=False))
    assert isinstance(running.action, act.StopServer)
    old_primary = members.decide(myself(facts(), primary(), removed=True))
    assert isinstance(old_primary.action, act.StopServer)
    stopped = ServerSeen(state=Server.STOPPED)
    rests = members.decide(
        myself(facts(), stopped, me=2, removed=True, promises=promises(2, incarnation=""))
    )
    assert (rests.rule, rests.action) == (17, None)
