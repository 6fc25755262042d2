"""Proves that nothing that pools did is lost when they go, and that clients' names are bounded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pgherd.model.ids import Instant
from pgherd.relay.pooltally import LENT, NAMES_MAX, OPENED, OTHERS, QUERIES, PoolTally
from pgherd.relay.tally import HOLD_BUCKETS_S
from pgherd.route.pooling import Pool
from pgherd.route.poolsteps import PoolLimits

NOW = Instant(0)


def lending(database: str, *, lent: int = 0) -> Any:
    """A pool that has lent its one server so often."""
    pool = Pool(PoolLimits(size=1), now=NOW)
    for number in range(lent):
        pool.want(number, NOW)
        if not number:
            pool.opened(1, 7, NOW)
        pool.gave_back(7, NOW, fit=True)
    return SimpleNamespace(family=SimpleNamespace(database=database), seen=pool.seen)


def session(database: str, *answered: int) -> Any:
    family = SimpleNamespace(database=database)
    return SimpleNamespace(family=family, tracker=object(), answered=answered)


def test_what_is_gone_counts_beside_what_is_there() -> None:
    tally = PoolTally()
    tally.pool_over(lending("shop", lent=3), NOW)
    tally.session_over(session("shop", 2, 5))
    found = tally.by_database([lending("shop", lent=4)], [session("shop", 1, 0)], NOW)
    assert (found["shop"][LENT], found["shop"][OPENED], found["shop"][QUERIES]) == (7, 2, 8)
    again = tally.by_database([], [], NOW)
    assert (again["shop"][LENT], again["shop"][QUERIES]) == (3, 7), "asking adds nothing"


def test_whoever_names_thousands_of_databases_fills_no_memory() -> None:
    tally = PoolTally()
    for number in range(NAMES_MAX + 50):
        tally.pool_over(lending(f"d{number}", lent=1), NOW)
    found = tally.by_database([], [], NOW)
    assert len(found) == NAMES_MAX + 1
    assert found[OTHERS][LENT] == 50
    assert sum(counts[LENT] for counts in found.values()) == NAMES_MAX + 50


def test_waits_are_counted_by_class() -> None:
    tally = PoolTally()
    for ms in (0, 5, 6, 31_000):
        tally.lent_after(ms)
    assert tally.wait_counts == [2, 1, *([0] * (len(HOLD_BUCKETS_S) - 2)), 1]
    assert tally.waited_ms == 31_011
