"""Herds with cascading and delayed replicas keep every invariant, in seeds of their own.

The other seeds have none, so that they stay as they are. PGHERD_CASCADE_SEEDS says how many.
"""

from __future__ import annotations

import os

import pytest

from pgherd.sim.run import run_seed
from pgherd.sim.shapes import CASCADE, CASCADE_FOUR, CASCADES_FROM, shape_of

SEEDS = int(os.environ.get("PGHERD_CASCADE_SEEDS", "4"))


@pytest.mark.timeout(300)
def test_cascading_and_delayed_replicas_keep_every_invariant() -> None:
    """Upstreams die, lead and come back in every storm; what they hand on is of one term (I12)."""
    for seed in range(CASCADES_FROM, CASCADES_FROM + SEEDS):
        result = run_seed(seed, storms=2)
        told = "\n".join(result.journal)
        assert not result.broken, f"{told}\nseed {seed} breaks {result.broken}: {result.text}"
        assert result.cascaded, f"nobody was fed by a standby in seed {seed}"
        assert result.elections > 1


def test_their_seeds_are_their_own() -> None:
    """No seed of before became one of them, and both of their shapes are drawn."""
    drawn = {shape_of(seed).name for seed in (*range(64), CASCADES_FROM - 1)}
    assert not drawn & {CASCADE.name, CASCADE_FOUR.name}
    assert {shape_of(CASCADES_FROM + n) for n in range(2)} == {CASCADE, CASCADE_FOUR}
