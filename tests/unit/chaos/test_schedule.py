"""A plan is its seed's alone, leaves no kind out, and has its share of double faults."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from pgherd.chaos.kinds import KINDS, allowed
from pgherd.chaos.schedule import Step, steps

DOUBLE_LEAST = 0.15


def plan(seed: int, count: int, *, apart: bool = True, leading: float = 0.0) -> list[Step]:
    return list(islice(steps(seed, allowed(apart=apart), leading_share=leading), count))


def test_a_seed_gives_one_plan() -> None:
    assert plan(7, 200) == plan(7, 200)
    assert plan(7, 20) != plan(8, 20)


def test_every_kind_comes_before_any_comes_twice() -> None:
    count = len(KINDS)
    firsts = [step.blows[0].kind.name for step in plan(3, count)]
    assert sorted(firsts) == sorted(KINDS)


def test_enough_faults_are_double_and_none_meets_itself() -> None:
    drawn = plan(5, 2000)
    doubles = [step for step in drawn if len(step.blows) == 2]
    assert len(doubles) >= DOUBLE_LEAST * len(drawn)
    for step in doubles:
        one, two = step.blows
        assert one.kind != two.kind
        assert not one.kind.alone
        assert not two.kind.alone


def test_faults_last_as_long_as_their_kind_says() -> None:
    for step in plan(11, 500):
        for blow in step.blows:
            low, high = blow.kind.hold_s
            assert low <= blow.hold_s <= high


def test_a_share_of_steps_can_be_asked_to_cost_a_primary() -> None:
    drawn = plan(1, 60, leading=0.6)
    costly = sum(step.blows[0].kind.fails_over for step in drawn)
    assert costly >= 0.55 * len(drawn)


def test_loopback_has_what_needs_nothing_of_the_ground() -> None:
    names = Counter(kind.primitive for kind in allowed(apart=False))
    assert set(names) == {"K", "P", "S", "F", "O"}
    assert len(allowed(apart=False)) >= 25
