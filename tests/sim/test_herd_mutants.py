"""Planted errors of the herd's protocol are noticed, each by an invariant that should.

Every run tries at least ten mutants and others every day; as many more as fit into MORE_SECONDS.
PGHERD_DAY=YYYY-MM-DD tries those of another day, PGHERD_FULL=1 all of them. The counts go to the
file that PGHERD_COUNTS names.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from pgherd.sim import mutantspage
from pgherd.sim.mutants.reference import ALONE, read
from pgherd.sim.mutants.search import ALL_KINDS, catch, of_the_day, order, run_one
from pgherd.sim.mutants.table import MUTANTS

ROOT = Path(__file__).resolve().parents[2]
IS_FULL = os.environ.get("PGHERD_FULL") == "1"
DAY = date.fromisoformat(os.environ.get("PGHERD_DAY") or datetime.now(UTC).date().isoformat())
LEAST = 11
MORE_SECONDS = 30
TODAY = of_the_day(DAY, least=LEAST)
PAGE = ROOT / mutantspage.PAGE


def must_be_noticed(name: str) -> None:
    """Search from the seed that the page knows, and count."""
    known = read(PAGE).get(name)
    found = catch(name, seeds=order(1, known.seed if known is not None else None))
    assert found.result is not None, (
        f"{name} was noticed by nobody who should, or its storm breaks without it too, in "
        f"{found.tried} seeds; `./dev sim herd --mutant {name}` tries again"
    )
    assert found.result.broken in MUTANTS[name].caught_by
    path = os.environ.get("PGHERD_COUNTS")
    if path:
        with open(path, "a", encoding="utf-8") as out:
            out.write("herd_mutants=1\n")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", TODAY[:LEAST])
def test_planted_error_of_the_day_is_noticed(name: str) -> None:
    """A named invariant notices the error; without it the same seed holds."""
    must_be_noticed(name)


@pytest.mark.timeout(900)
def test_more_planted_errors_are_noticed() -> None:
    """As many of the others as there is time for; all of them in a full run."""
    until = time.monotonic() + MORE_SECONDS
    for name in TODAY[LEAST:]:
        if IS_FULL or time.monotonic() < until:
            must_be_noticed(name)


def test_each_mutant_has_its_day() -> None:
    """Within a week every mutant is among the first ones of a day."""
    days = [of_the_day(DAY + timedelta(days=number), least=LEAST) for number in range(7)]
    assert {name for names in days for name in names[:LEAST]} == set(MUTANTS)
    assert all(sorted(names) == sorted(MUTANTS) for names in days)


def test_every_row_can_be_drawn_and_stands_on_the_page() -> None:
    """Faults exist, somebody may notice, and the page knows a seed (./dev docs checks its text)."""
    for name, mutant in MUTANTS.items():
        assert set(mutant.faults) <= set(ALL_KINDS), name
        assert mutant.caught_by, name
    assert set(read(PAGE)) == set(MUTANTS)
    assert {rule.mutant for rule in ALONE} <= set(MUTANTS)


def test_a_restored_ledger_loses_nothing() -> None:
    """F0: after a restore from before a failover every copy is sealed, and the newest one leads."""
    restored = 0
    for seed in range(1, 7):
        result = run_one(MUTANTS["restored-as-saved"], seed, planted=False)
        assert not result.broken, f"seed {seed} breaks {result.broken}: {result.text}"
        restored += result.faults.get("ledger.restored", 0)
    assert restored >= 4


def test_an_error_ends_with_its_run() -> None:
    """A mutant leaves nothing behind: the same seed holds before and after, and is the same run."""
    mutant = MUTANTS["no-seal"]
    before = run_one(mutant, 1, planted=False)
    assert run_one(mutant, 1).broken in mutant.caught_by
    assert run_one(mutant, 1, planted=False) == before
    assert not before.broken
