"""The winner of an election dies between two steps of its promotion (FAULTS.md 65)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pgherd.proof.herd import LocalHerd
from pgherd.proof.trials import judge
from pgherd.proof.writers import Writers, create_table

PLACES = {
    "promote.adopted": "after the record of its election, before pg_promote",
    "promote.promoted": "after pg_promote, before the epoch record",
    "after.promote": "after the epoch record, before the term is stable",
}
WITH_ITS_MACHINE = "promote.promoted"
"""There its server goes as well; at the others only the agent, which starts again."""


@pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)
@pytest.mark.fault(65)
def test_a_winner_dies_at_each_step_of_its_promotion(
    stable: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It, or another one, leads in the end, with every acknowledged row."""
    order = tmp_path / "failpoint"
    monkeypatch.setenv("PGHERD_FAILPOINT", str(order))
    with LocalHerd(3, postgres_bin=stable.postgres_bin) as herd:
        herd.start()
        herd.wait_stable(90)
        create_table(herd.dsn_direct())
        writers = Writers(herd.dsn_direct(), count=2)
        writers.start()
        try:
            for place, story in PLACES.items():
                writers.mark(story)
                order.write_text(f"{place}=panic")
                herd.kill_postmaster(herd.wait_primary())
                winner = herd.wait_for(
                    lambda place=place: struck(herd, place), f"death at {place}", deadline_s=30
                )
                if place == WITH_ITS_MACHINE:
                    herd.kill_node(winner)
                    herd.silent.add(winner)
                    herd.wait_primary(other_than=winner, deadline_s=60)
                    herd.restart_node(winner)
                    herd.silent.discard(winner)
                herd.wait_for(lambda: writers.idle_s() < 0.5, "write", deadline_s=60)
                herd.wait_stable(90)
        finally:
            history = writers.stop()
        verdict = judge(herd, history)
        assert verdict.clean, str(verdict)
        assert verdict.acknowledged > 20


def struck(herd: LocalHerd, place: str) -> str | None:
    """The node whose agent died at a place, by its log."""
    for name in herd.nodes:
        log = herd.places[name].log.read_text(errors="replace")
        if any("failpoint.reached" in line and place in line for line in log.splitlines()):
            return name
    return None
