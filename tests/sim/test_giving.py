"""A herd that only a person can bring back: nothing is lost but what the ledger gave up by name."""

from __future__ import annotations

from random import Random

import pytest

from pgherd.sim import checks, giving
from pgherd.sim.run import Result, judge
from pgherd.sim.shapes import Shape
from pgherd.sim.world import World

SEEDS = range(1, 25)
SHAPE = Shape("given up", size=5, witnesses=2)


def told(seed: int) -> tuple[World, Result]:
    """One story, to its end or to the first broken invariant."""
    world = World(seed, shape=SHAPE, policy=giving.policy())
    return world, judge(world, lambda: giving.story(world, Random(seed)))


@pytest.mark.timeout(300)
def test_what_is_given_up_is_all_that_is_lost() -> None:
    """Electors and winners die meanwhile, lost ones return: I7 and I20 hold for all other rows."""
    lost = fenced = 0
    for seed in SEEDS:
        world, result = told(seed)
        text = "\n".join(result.journal)
        assert not result.broken, f"{text}\nseed {seed} breaks {result.broken}: {result.text}"
        lost += sum(world.checks.given_up.values())
        facts = world.facts()
        assert facts is not None
        fenced += any(note.kind == "fence.done" for note in facts.notes)
    assert lost > 100, "the stories lose nothing"
    assert fenced > len(SEEDS) // 2, "nobody had to be fenced"


@pytest.mark.timeout(300)
def test_loss_is_noticed_where_nobody_gave_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the exception for what the ledger recorded, the same stories break an invariant."""
    monkeypatch.setattr(checks, "forgive", lambda *_: None)
    broken = {told(seed)[1].broken for seed in range(1, 9)}
    assert broken & {"I7", "I8", "I10", "I20"}, broken
