"""What tests of every suite share: the counts that CI holds against its floors.

A test that carries `@pytest.mark.fault(N)` says that row N of the catalogue of faults happens in
it; when it has passed it counts as one of `fault_tests`, so that a skipped one covers nothing.
One that carries `@pytest.mark.full` is left to `./dev test --full`: it has no room in CI's budget.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from pgherd.chaos.catalogue import ROWS


def add_counts(**numbers: int) -> None:
    """Append to the file that PGHERD_COUNTS names, where there is one."""
    file = os.environ.get("PGHERD_COUNTS")
    if file:
        with open(file, "a", encoding="utf-8") as counts:
            counts.writelines(f"{name}={number}\n" for name, number in numbers.items())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A row that is named is one of the catalogue; what CI has no time for is left out."""
    if not os.environ.get("PGHERD_FULL"):
        left_out = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("full")]
    for item in items:
        for mark in item.iter_markers("fault"):
            unknown = set(mark.args) - ROWS.keys()
            assert mark.args, f"{item.nodeid}: which row?"
            assert not unknown, f"{item.nodeid}: no row {unknown}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Count marked tests that passed."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined] # pluggy's, which has no types
    if report.when == "call" and report.passed and item.get_closest_marker("fault"):
        add_counts(fault_tests=1)


@pytest.fixture
def count() -> Callable[..., None]:
    """Add to the counts of this run (`name=number` lines in the file that PGHERD_COUNTS names)."""

    return add_counts
