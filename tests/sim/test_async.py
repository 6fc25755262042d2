"""Mode async in simulation: its planted errors are noticed, and bad luck alone breaks nothing."""

from __future__ import annotations

import pytest

from pgherd.sim.asyncplants import PLOTS, run_plot

SEEDS = 120
LUCKY_SEEDS = 6


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.timeout(300)
def test_a_planted_error_is_noticed(name: str) -> None:
    """By an invariant that is there for it; the same seed without it keeps them all."""
    for seed in range(1, SEEDS):
        result = run_plot(name, seed, planted=True)
        if result.broken:
            break
    assert result.broken in PLOTS[name].noticed, (seed, result.broken, result.text)
    honest = run_plot(name, seed, planted=False)
    assert not honest.broken, (seed, honest.broken, honest.text, honest.journal)
    assert not honest.void


@pytest.mark.parametrize(
    "name", ["closed-when-written", "nobody-wards", "any-lag", "quorum-as-async"]
)
@pytest.mark.timeout(300)
def test_bad_luck_breaks_nothing(name: str) -> None:
    """A deaf checkpointer, agents that stop, standbys cut off, a mode that was not heard of."""
    for seed in range(1, 1 + LUCKY_SEEDS):
        result = run_plot(name, seed, planted=False)
        assert not result.broken, (seed, result.broken, result.text, result.journal)
