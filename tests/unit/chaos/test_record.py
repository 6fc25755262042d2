"""Chaos is recorded beside seeds and states: lines are read as written, and summed."""

from __future__ import annotations

from pathlib import Path

from pgherd.sim import record
from pgherd.sim.record import Attacked, Run

LINE = Attacked(
    day="2026-11-21",
    commit="abc1234",
    ground="namespaces",
    postgres="15.14",
    seed=7,
    minutes=5.5,
    faults=30,
    kinds=20,
    double=4,
    failovers=11,
    acknowledged=40000,
    refused=9000,
    lost=0,
    wrong=0,
)
SEEDS = Run(
    day="2026-11-21",
    commit="abc1234",
    simulator="herd",
    first=1,
    last=2,
    seeds=2,
    hours=0.2,
    faults=5,
    elections=3,
    writes=100,
    failures=0,
)


def test_lines_stay_when_others_are_added(tmp_path: Path) -> None:
    page = tmp_path / "soak.md"
    record.record_attacked(LINE, {"primary.isolated": 2, "switchover": 1}, page)
    record.record(SEEDS, page)
    record.record_attacked(LINE, {"primary.isolated": 3}, page)
    assert record.read_attacked(page) == [LINE, LINE]
    assert record.read(page) == [SEEDS]
    assert record.read_struck(page) == {"primary.isolated": 5, "switchover": 1}
    assert page.read_text() == record.made_anew(page)


def test_runs_are_summed(tmp_path: Path) -> None:
    page = tmp_path / "soak.md"
    record.record_attacked(LINE, {}, page)
    record.record_attacked(LINE, {}, page)
    assert "| together |  |  |  | 0 | 11 | 60 | 20 | 8 | 22 | 80000 | 18000 | 0 | 0 |" in (
        page.read_text()
    )
