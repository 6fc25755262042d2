"""A pause: nothing fails over and nothing is repaired, and what keeps commits safe goes on."""

from __future__ import annotations

import pytest
from plan_values import (
    NOW,
    electing,
    facts,
    look,
    myself,
    parked,
    pos,
    primary,
    replace,
    report,
    standby,
)

from pgherd.ledger import commands as cmd
from pgherd.model import action as act
from pgherd.model.facts import Facts
from pgherd.model.observation import Server, ServerSeen
from pgherd.model.upkeep import Pause, Upkeep
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
