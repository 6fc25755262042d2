"""Pauses and work on nodes: what is done and left undone, and that safety goes on."""

from __future__ import annotations

from typing import Any

import pytest
from plan_values import (
    NOW,
    electing,
    facts,
    late,
    look,
    myself,
    parked,
    pos,
    primary,
    replace,
    report,
    sealed,
    sender,
    standby,
    sync,
)

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.ledger.commands import Shift
from pgherd.model import action as act
from pgherd.model.facts import Facts, Handover
from pgherd.model.ids import NodeId
from pgherd.model.observation import Heard, Server, ServerSeen
from pgherd.model.policy import Policy
from pgherd.model.upkeep import Pause, Stopped, Upkeep, Verb, Work, WorkState
from pgherd.plan import herd, member


def paused(known: Facts | None = None, *, until_ms: int = 0) -> Facts:
    pause = Pause("p1", "ann", "new switches", since_ms=1, until_ms=until_ms)
    return replace(known or facts(), upkeep=Upkeep(pause=pause))


def herd_says(known: Facts, server: ServerSeen) -> tuple[int, object]:
    seen = look(known, report(1, server))
    found = herd.decide(known, view=seen.view, policy=seen.policy, now=NOW)
    return found.rule, found.command


def test_a_dead_primary_is_not_followed_in_a_pause() -> None:
    """Rule 202 begins a term, and in a pause says why it does not."""
    dead = replace(primary(), state=Server.STOPPED)
    assert isinstance(herd_says(facts(), dead)[1], cmd.Begin)
    rule, command = herd_says(paused(), dead)
    assert (rule, command) == (202, None)


def test_a_pause_ends_on_the_raft_leaders_clock() -> None:
    """Rule 104 ends one whose time is over, and no other."""
    assert herd_says(paused(until_ms=NOW), primary())[1] == cmd.Resume(
        id="p1", reason="the pause asked for by ann is over"
    )
    assert herd_says(paused(until_ms=NOW + 1), primary())[1] is None
    assert herd_says(paused(), primary())[1] is None


@pytest.mark.parametrize(
    ("me", "server"),
    [
        (1, ServerSeen(state=Server.STOPPED, system_id="73")),  # the primary's, in its term
        (3, ServerSeen(state=Server.STOPPED, system_id="73")),
        (3, ServerSeen(state=Server.HUNG, system_id="73")),
        (3, parked(pos(2, 9000))),
        (3, ServerSeen(state=Server.NONE)),
    ],
)
def test_nothing_is_repaired_in_a_pause(me: int, server: ServerSeen) -> None:
    """Neither started, nor ended for hanging, nor rewound, nor copied; it says what waits."""
    lead = report(1, primary()).report
    before = member.decide(myself(facts(), server, me=me, leader_report=lead))
    assert before.action is not None, before
    now = member.decide(myself(paused(), server, me=me, leader_report=lead))
    assert (now.rule, now.action) == (66, None)
    assert "paused by ann (new switches)" in now.reason
    assert before.reason in now.reason


def test_safety_goes_on_in_a_pause() -> None:
    """A second primary stops, an election seals and starts who it needs, a stream is followed."""
    stray = member.decide(myself(paused(), primary(), me=3))
    assert isinstance(stray.action, act.StopServer)
    stopped = ServerSeen(state=Server.STOPPED, system_id="73")
    assert isinstance(
        member.decide(myself(paused(electing()), stopped, me=3)).action, act.StartStandby
    )
    assert isinstance(member.decide(myself(paused(electing()), standby(), me=3)).action, act.Seal)
    alone = member.decide(myself(paused(), parked(pos(3, 5000)), me=3))
    assert isinstance(alone.action, act.Follow)


def test_who_handed_over_comes_back_in_a_pause() -> None:
    """A switchover by hand works in a pause, and the old primary becomes a replica after it."""
    over = ServerSeen(state=Server.STOPPED, system_id="73", was_primary=True, clean=True)
    me = myself(paused(), over, me=3)
    me = replace(me, promises=replace(me.promises, adopted_leader=me.me))
    assert isinstance(member.decide(me).action, act.StartStandby)


# --- work, node by node --------------------------------------------------------------------------


def working(verb: Verb, *nodes: str, known: Facts | None = None, **fields: Any) -> Facts:
    work = Work(
        id="w1",
        verb=verb,
        nodes=tuple(NodeId(node) for node in nodes),
        requested_by="ann",
        asked_at_ms=1,
        **fields,
    )
    return replace(known or facts(), upkeep=Upkeep(works=(work,)))


def in_hand(verb: Verb, node: str, mark: str, **fields: Any) -> Facts:
    return working(
        verb,
        node,
        node=NodeId(node),
        mark=mark,
        state=WorkState.RUNNING,
        stepped_at_ms=NOW,
        **fields,
    )


def command_of(known: Facts, *reports: Heard, **changes: Any) -> object:
    seen = look(known, *reports, **changes)
    return herd.decide(known, view=seen.view, policy=seen.policy, now=NOW).command


def test_replicas_come_first_and_the_primary_hands_over() -> None:
    """A rolling restart takes n2, then n3, and has n1 hand over before its turn."""
    everybody = ("n1", "n2", "n3")
    first = command_of(working(Verb.RESTART, *everybody, rolling=True))
    assert isinstance(first, cmd.TakeInHand)
    assert (first.node, first.shift) == ("n2", Shift.NONE)
    done = (NodeId("n2"), NodeId("n3"))
    last = command_of(working(Verb.RESTART, *everybody, rolling=True, finished=done))
    assert isinstance(last, cmd.TakeInHand)
    assert (last.node, last.shift, last.mark) == ("n1", Shift.AWAY, "moves")


def test_the_next_waits_until_the_last_is_back() -> None:
    """n3 is not touched while n2 has not caught up again, unless that was forced."""
    alone = report(1, primary(senders=(sender(3),)))
    half = {"rolling": True, "finished": (NodeId("n2"),)}
    assert command_of(working(Verb.RESTART, "n2", "n3", **half), alone) is None
    forced = command_of(working(Verb.RESTART, "n2", "n3", force=True, **half), alone)
    assert isinstance(forced, cmd.TakeInHand)


def test_a_primary_is_restarted_in_place_under_a_new_term() -> None:
    """Restart of the primary alone: a switchover to itself, which nobody else wins."""
    first = command_of(working(Verb.RESTART, "n1"))
    assert isinstance(first, cmd.TakeInHand)
    assert first.shift is Shift.IN_PLACE
    level = replace(working(Verb.RESTART, "n1"), level=5)
    known, outcome = apply_command(level, first, at_ms=NOW)
    assert isinstance(outcome, cmd.Done)
    assert known.switchover is not None
    assert known.switchover.candidate == "n1"
    ready = report(1, primary(checkpointed_for="w1"))
    hold = command_of(known, ready)
    assert isinstance(hold, cmd.Hold)
    known, outcome = apply_command(known, hold, at_ms=NOW)
    assert isinstance(outcome, cmd.Done)
    begun = command_of(known, ready, held_since=NOW - Policy().hold_ms)
    assert isinstance(begun, cmd.Begin)
    assert begun.handover is not None
    assert begun.handover.candidate == "n1"
    elects = electing(handover=replace(begun.handover, drained=pos(3, 5000)))
    again = report(1, parked(pos(3, 5000)), sealed(1, pos(3, 5000)))
    others = [report(n, parked(pos(3, 5000)), sealed(n, pos(3, 5000))) for n in (2, 3)]
    won = command_of(elects, again, *others, phase_since=NOW)
    assert isinstance(won, cmd.Elect)
    assert won.winner.node == "n1"


def test_who_restarts_in_place_seals_its_end() -> None:
    """What it froze as it stopped is less than what it has; anybody else stays as it is."""
    handover = Handover("w1", NodeId("n1"), drained=pos(3, 4990))
    back = myself(electing(handover=handover), parked(pos(3, 5000)))
    frozen = replace(back, promises=sealed(1, pos(3, 4990)))
    assert isinstance(member.decide(frozen).action, act.Seal)
    assert member.decide(replace(back, promises=sealed(1, pos(3, 5000)))).action is None
    to_another = replace(handover, candidate=NodeId("n2"))
    frozen = replace(frozen, facts=electing(handover=to_another))
    assert member.decide(frozen).action is None


def test_a_node_is_crossed_off_for_another_server_only() -> None:
    """The same postmaster is not a restarted one; another one that streams is."""
    known = in_hand(Verb.RESTART, "n2", "100")
    assert command_of(known, report(2, standby(pid=100))) is None
    assert command_of(known, report(2, standby(pid=101))) == cmd.CrossOff("w1", 0, rule=1103)
    lost = report(1, primary(senders=(sender(3),)))
    assert command_of(known, lost, report(2, standby(pid=101))) is None
    for not_yet in (
        replace(standby(), state=Server.STOPPED, receiver=None),
        standby(pid=101, receiver=None),
    ):
        assert command_of(known, report(2, not_yet)) is None


def test_a_switchover_that_did_not_come_about_ends_the_work() -> None:
    """Rule 1104 says so instead of asking again for ever."""
    end = command_of(in_hand(Verb.RESTART, "n1", "moves", rolling=True))
    assert isinstance(end, cmd.EndWork)
    assert end.state is WorkState.FAILED


def test_work_waits_for_its_time() -> None:
    """Nothing begins before it is due."""
    assert command_of(working(Verb.RELOAD, "n2", not_before_ms=NOW + 1)) is None
    assert command_of(working(Verb.RELOAD, "n2", not_before_ms=NOW)) is not None


def test_a_copy_leaves_the_sync_set_before_it_is_replaced() -> None:
    """Rule 506 takes it out where another one is left; the copy begins after that."""
    known = in_hand(Verb.REINIT, "n2", "leaves")
    step = command_of(known)
    assert isinstance(step, cmd.ChangeSync)
    assert [key.node for key in step.names] == ["n3"]
    before = member.decide(myself(in_hand(Verb.REINIT, "n2", "a2"), standby(), me=2))
    assert before.rule != 81
    out = replace(in_hand(Verb.REINIT, "n2", "a2"), sync=sync(3))
    now = member.decide(myself(out, standby(), me=2))
    assert (now.rule, type(now.action)) == (81, act.Rebuild)


def test_who_was_elected_is_not_copied_anew() -> None:
    """Rule 1104 ends work that would wait until that node leads no more."""
    end = command_of(in_hand(Verb.REINIT, "n1", "a1"))
    assert isinstance(end, cmd.EndWork)
    assert (end.state, end.rule) == (WorkState.FAILED, 1104)


def test_a_server_at_rest_is_not_waited_for_by_a_reload() -> None:
    """Rule 1103: it reads its files when it starts."""
    off = late(report(2, replace(standby(), state=Server.STOPPED)))
    known = in_hand(Verb.RELOAD, "n2", "100")
    assert isinstance(command_of(known, off), cmd.CrossOff)
    assert command_of(known) is None


def test_the_only_copy_does_not_leave() -> None:
    """Commits could not go on without it, so nothing is copied."""
    known = replace(in_hand(Verb.REINIT, "n2", "leaves"), sync=sync(2))
    alone = report(1, primary(known, senders=(sender(2),)))
    assert command_of(known, alone, late(report(3, standby()))) is None


def test_members_do_their_part() -> None:
    """Restart once, reload once; who was stopped stays so, in an election too."""
    known = in_hand(Verb.RESTART, "n2", "100")
    assert member.decide(myself(known, standby(pid=100), me=2)).rule == 78
    assert member.decide(myself(known, standby(pid=101), me=2)).rule == 59
    known = in_hand(Verb.RELOAD, "n2", "100")
    assert member.decide(myself(known, standby(), me=2)).action == act.Reload("w1")
    assert member.decide(myself(known, standby(reloaded="w1"), me=2)).action is None
    stopped = Upkeep(stopped={NodeId("n2"): Stopped("ann", since_ms=1)})
    for known in (facts(upkeep=stopped), electing(upkeep=stopped)):
        off = member.decide(myself(known, replace(standby(), state=Server.STOPPED), me=2))
        assert (off.rule, off.action) == (65, None)
        on = member.decide(myself(known, standby(), me=2))
        assert isinstance(on.action, act.StopServer)
