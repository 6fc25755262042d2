"""In which order servers get what standbys must match, and when a promotion goes down."""

from __future__ import annotations

import itertools

import pytest
from config_cases import HAS, MORE, configured, knows, runs
from plan_values import establishing, parked, pos, primary, replace, sealed, standby

from pgherd.model import action as act
from pgherd.model.facts import Handover
from pgherd.model.ids import NodeId
from pgherd.model.pgconfig import Running
from pgherd.plan import member as decider
from pgherd.plan.configuring import held, lowers
from pgherd.plan.own import ConfigSeen, Self

RAISED = configured(max_connections="200", work_mem="8MB")
LOWERED = configured(max_connections="50")


def value(known: Self) -> str:
    """What a member's file says of max_connections."""
    return held(known, known.facts.config[-1].parameters)["max_connections"]


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ((HAS, HAS), "100"),
        ((MORE, HAS), "100"),
        ((MORE, ()), "100"),
        ((MORE, MORE), "200"),
    ],
)
def test_a_raise_reaches_the_primary_last(others: tuple[Running, ...], expected: str) -> None:
    """Its file has it once every standby that runs does, and what needs no order at once."""
    known = knows(1, RAISED, runs(primary()), others=others)
    assert value(known) == expected
    assert held(known, RAISED.config[-1].parameters)["work_mem"] == "8MB"


def test_a_standby_that_is_down_is_not_waited_for() -> None:
    """It starts with what the ledger says."""
    known = knows(1, RAISED, runs(primary()), others=(HAS, HAS))
    alone = replace(known, config=ConfigSeen(others={NodeId("n2"): MORE}))
    assert value(alone) == "200"


@pytest.mark.parametrize(
    ("theirs", "expected"), [(HAS, "100"), (MORE, "200"), ((), "100"), ((50, 8, 12, 0, 64), "50")]
)
def test_a_standby_goes_down_after_its_primary(theirs: Running, expected: str) -> None:
    """Where the primary's value is not known it stays where it is."""
    assert value(knows(2, LOWERED, runs(standby()), others=(theirs, HAS))) == expected


def test_no_order_of_restarts_leaves_a_standby_with_less() -> None:
    """Restart members in any order, any number of times: what each comes up with fits the others.

    The primary is n1 throughout. A restart takes over what the file says; standbys never have less
    than the primary at any moment, for a raise as for a lowering.
    """
    for goal, order in itertools.product((200, 50), itertools.product((1, 2, 3), repeat=6)):
        known = configured(max_connections=str(goal))
        has = {1: 100, 2: 100, 3: 100}
        for number in order:
            others = tuple((has[n], *HAS[1:]) for n in (1, 2, 3) if n != number)
            server = runs(primary() if number == 1 else standby(), (has[number], *HAS[1:]))
            has[number] = int(value(knows(number, known, server, others=others)))
            assert min(has[2], has[3]) >= has[1], (goal, order, has)
        if goal == 50 and order[:3] == (1, 2, 3):
            assert has == {1: 50, 2: 50, 3: 50}


def test_what_counts_for_a_role_is_told_when_the_role_changes() -> None:
    """A new primary was told its standby's values; its own come by the next act."""
    known = configured(work_mem="8MB")
    one = replace(
        known.config[-1], primary={"work_mem": "9MB"}, nodes={NodeId("n1"): {"jit": "on"}}
    )
    known = replace(known, config=(*known.config[:-1], one))
    was = knows(1, known, replace(runs(primary()), config=2), others=(HAS, HAS), work_mem="8MB")
    planned = decider.decide(was)
    assert planned.rule == 92
    assert planned.action == act.Configure(2, {"work_mem": "9MB", "jit": "on"}, one.access)


def test_only_a_switchover_goes_down() -> None:
    """A failover promotes what runs; nobody waits for a restart then."""
    assert lowers(LOWERED, HAS)
    assert not lowers(LOWERED, ())
    assert not lowers(RAISED, HAS)
    winner = replace(establishing(), config=LOWERED.config)
    handed = replace(winner, handover=Handover(switchover="s1", candidate=NodeId("n2")))
    for known, lower in ((winner, False), (handed, True)):
        server = runs(parked(pos(3, 5000)))
        base = knows(2, known, server, others=(HAS, HAS))
        planned = decider.decide(replace(base, promises=sealed(2, pos(3, 5000))))
        assert isinstance(planned.action, act.Promote), planned
        assert planned.action.lower is lower
