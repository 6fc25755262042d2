"""Rules 620 and 86: when a primary leaves a disk that fills, for whom; what the ballast is for."""

from __future__ import annotations

import pytest
from plan_values import NAMES, facts, look, myself, primary, replace, report, sender, standby

from pgherd.ledger import commands as cmd
from pgherd.model import action as act
from pgherd.model.facts import Switchover
from pgherd.model.observation import Disk, Heard, Server, ServerSeen
from pgherd.model.policy import Policy
from pgherd.plan import room
from pgherd.plan.herd import decide
from pgherd.plan.member import decide as decide_self
from pgherd.plan.rule import Situation

MB = 1 << 20
POLICY = Policy(min_free_disk_bytes=64 * MB, disk_full_within_ms=900_000)
SIZE = 10_000 * MB
LATER_MS = 10_000_000


def with_disk(heard: Heard, free_mb: int, full_in_ms: int = -1) -> Heard:
    disk = Disk("data", free_mb * MB, SIZE, full_in_ms)
    told = replace(heard.report, disk_free_bytes=disk.free_bytes, disks=(disk,))
    return replace(heard, report=told)


def herd(
    primary_disk: tuple[int, int],
    *others: tuple[int, int],
    policy: Policy = POLICY,
    **changes: object,
) -> Situation:
    """n1 leads; the others stream and are well, with these disks (MB free, full in ms)."""
    senders = tuple(sender(number) for number in range(2, 2 + len(others)))
    reports = [with_disk(report(1, primary(senders=senders)), *primary_disk)]
    reports += [with_disk(report(n, standby()), *disk) for n, disk in enumerate(others, start=2)]
    known = look(facts(**changes), *reports, unix_ms=LATER_MS)
    return replace(known, policy=policy)


def decided(s: Situation):
    return decide(s.facts, view=s.view, policy=s.policy, now=s.now)


def test_a_primary_below_the_floor_hands_over_to_who_has_far_more() -> None:
    """The wish names the node and says why; it is one like an operator's from there on."""
    decision = decided(herd((30, -1), (9000, -1), (200, -1)))
    assert decision.rule == 620
    assert isinstance(decision.command, cmd.RequestSwitchover)
    assert decision.command.candidate == NAMES[1]
    assert decision.command.requested_by == "pgherd: n1 has less than 64 MB free on disk"


@pytest.mark.parametrize(
    ("free_mb", "full_in_ms", "moves"),
    [
        (1500, 840_000, True),
        (1500, 901_000, False),
        (1500, -1, False),
        (2500, 60_000, False),  # more than a fifth is left: a burst, or somebody's plan
        (65, -1, False),
    ],
)
def test_a_disk_that_fills_soon(free_mb: int, full_in_ms: int, moves: bool) -> None:
    decision = decided(herd((free_mb, full_in_ms), (9000, -1), (9000, -1)))
    assert (decision.rule == 620) is moves
    if moves:
        assert "the data disk of n1 is full in 14 min: n2 takes over" in decision.reason


@pytest.mark.parametrize(
    "others",
    [
        ((100, -1), (100, -1)),  # less than twice the floor
        ((1500, 60_000), (1500, 60_000)),  # they fill as well
    ],
)
def test_nobody_takes_over_into_the_same_trouble(others: tuple[tuple[int, int], ...]) -> None:
    decision = room.hand_over(herd((30, -1), *others))
    assert decision is not None
    assert decision.command is None
    assert "nobody who could take over has much more room" in decision.reason


def test_what_a_planned_change_forbids_is_not_done_here_either() -> None:
    """A node whose operator says no is passed over, as anywhere."""
    members = dict(facts().members)
    tags = replace(members[NAMES[1]].tags, nofailover=True)
    members[NAMES[1]] = replace(members[NAMES[1]], tags=tags)
    decision = decided(herd((30, -1), (9000, -1), (9000, -1), members=members))
    assert isinstance(decision.command, cmd.RequestSwitchover)
    assert decision.command.candidate == NAMES[2]


def test_the_primary_does_not_go_to_and_fro() -> None:
    """A term that has just begun is given its time, and a wish under way is not doubled."""
    young = [replace(r, began_at_ms=LATER_MS - 1000) for r in facts().history]
    waits = room.hand_over(herd((30, -1), (9000, -1), history=tuple(young)))
    assert waits is not None
    assert (waits.command, "only just changed" in waits.reason) == (None, True)
    wish = Switchover("s1", NAMES[1], "ann", LATER_MS)
    assert room.hand_over(herd((30, -1), (9000, -1), switchover=wish)) is None


def test_who_switched_failover_off_decides_alone() -> None:
    manual = replace(POLICY, failover_enabled=False)
    assert room.hand_over(herd((30, -1), (9000, -1), policy=manual)) is None


def test_a_server_that_starves_gets_the_ballast_before_it_is_started() -> None:
    starved = ServerSeen(state=Server.STOPPED, crashes=3, starved=True)
    planned = decide_self(myself(facts(), starved, me=2))
    assert (planned.rule, planned.action) == (86, act.FreeBallast())
    assert decide_self(myself(facts(), replace(starved, starved=False), me=2)).rule == 53
