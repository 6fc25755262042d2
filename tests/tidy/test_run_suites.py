"""The runner fails when it should: failed tests, missed floors, passed budgets, failed tools."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The runner, with an empty tree as its root and this Python's own programs."""
    spec = importlib.util.spec_from_file_location("run_suites", ROOT / "tests" / "run_suites.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "run_suites", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "ENDING_SECONDS", 1)
    return module


def suite(runner: ModuleType, tmp_path: Path, text: str, **changes: object) -> object:
    """Run one suite that has this test file."""
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "test_some.py").write_text(text)
    row = {"name": "some", "paths": ("some",), "budget_seconds": 60, "floors": {}, **changes}
    return runner.run(runner.Suite(**row), full=False)


PASSING = """
import os
def test_counts():
    with open(os.environ["PGHERD_COUNTS"], "a") as file:
        file.write("seeds=3\\nseeds=4\\nnot a count\\n")
"""


def test_counts_are_summed_and_held_against_floors(runner: ModuleType, tmp_path: Path) -> None:
    outcome = suite(runner, tmp_path, PASSING, floors={"passed": 1, "seeds": 7, "failovers": 1})
    assert (outcome.passed, outcome.failed) == (1, 1)
    assert outcome.counts["seeds"] == 7
    assert outcome.complaints == ["failovers 0 is below the floor of 1"]


def test_failures_are_counted(runner: ModuleType, tmp_path: Path) -> None:
    text = "def test_a(): assert 0\ndef test_b(): pass\ndef test_c(nothing): pass\n"
    outcome = suite(runner, tmp_path, text)
    assert (outcome.passed, outcome.failed) == (1, 2)


def test_a_suite_that_is_not_there_is_below_its_floor(runner: ModuleType) -> None:
    outcome = runner.run(runner.Suite("gone", ("gone",), 60, {"passed": 1}), full=False)
    assert (outcome.passed, outcome.failed) == (0, 1)


def test_a_file_that_does_not_load_is_a_failure(runner: ModuleType, tmp_path: Path) -> None:
    outcome = suite(runner, tmp_path, "import nothing_like_it\n")
    assert outcome.failed == 1


def test_a_suite_past_its_budget_is_ended(runner: ModuleType, tmp_path: Path) -> None:
    text = "import threading\ndef test_a(): threading.Event().wait(300)\n"
    outcome = suite(runner, tmp_path, text, budget_seconds=3)
    assert outcome.failed >= 1
    assert outcome.seconds < 60


def test_a_tool_that_complains_is_a_failure(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "BIN", Path("/bin"))
    row = runner.Suite("tools", (), 60, {}, tools=(("true",), ("false",)))
    outcome = runner.run(row, full=False)
    assert (outcome.passed, outcome.failed) == (1, 1)
    assert outcome.complaints == ["false: ended with 1"]


def test_lines_that_are_no_counts_are_left_out(runner: ModuleType) -> None:
    assert runner.read_counts("a=1\nb = 2\nc=x\na=2\n") == Counter(a=3)
