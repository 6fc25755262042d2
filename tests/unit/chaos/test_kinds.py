"""The table of kinds is whole: every primitive, rows that exist, words that a person can read."""

from __future__ import annotations

import pytest

from pgherd.chaos.fault import Kind, Needs, Primitive
from pgherd.chaos.kinds import KINDS
from pgherd.sim.faults import KINDS as SIMULATED

ROWS = range(1, 91)
KINDS_LEAST = 25
SHARED_LEAST = 20


def test_there_are_enough_of_every_primitive() -> None:
    assert len(KINDS) >= KINDS_LEAST
    assert {kind.primitive for kind in KINDS.values()} == set(Primitive)


def test_the_simulators_words_are_used() -> None:
    assert len(KINDS.keys() & SIMULATED.keys()) >= SHARED_LEAST


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_a_kind_says_all_that_is_asked(kind: Kind) -> None:
    assert set(kind.rows) <= set(ROWS)
    assert kind.target
    assert kind.how
    assert kind.undone
    assert 0 < kind.hold_s[0] <= kind.hold_s[1] <= 30
    grounds = {Primitive.NETWORK: Needs.NETWORK, Primitive.DISK: Needs.DISKS}
    assert kind.needs is grounds.get(kind.primitive, kind.needs)
