"""Every interleaving of small scopes keeps every invariant, and planted mistakes are noticed.

PGHERD_EXPLORE_STATES says how many states to visit over all scopes; figures are appended to the
file that PGHERD_COUNTS names, one `name=number` a line.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pgherd.sim import record
from pgherd.sim.explore.cli import explored, failure, line_for_record, main, word_of
from pgherd.sim.explore.engine import Explorer
from pgherd.sim.explore.mutants import MUTANT_STATES, MUTANTS, is_caught, run_mutant
from pgherd.sim.explore.scope import EVENTS, Scope
from pgherd.sim.explore.scopes import SCOPES
from pgherd.sim.explore.search import explore

STATES = int(os.environ.get("PGHERD_EXPLORE_STATES", "120000"))


def count(**figures: int) -> None:
    path = os.environ.get("PGHERD_COUNTS")
    if path:
        with open(path, "a", encoding="utf-8") as out:
            out.writelines(f"{name}={figure}\n" for name, figure in figures.items())


@pytest.mark.timeout(600)
def test_scopes_hold_every_invariant() -> None:
    """No interleaving that is reached breaks anything; every scope is visited."""
    results = list(explored(list(SCOPES), STATES))
    for result in results:
        assert not result.broken, failure(result, result.scope)
        assert result.exhausted or result.states >= STATES * SCOPES[result.scope].share // 100
    count(explore_states=sum(r.states for r in results), explore_scopes=len(results))


def test_a_tiny_scope_is_known_by_heart() -> None:
    """One write to one synchronous standby: nothing else can happen, and nothing is missing.

    At rest; the row is in the primary's WAL; the standby has it; the confirmation is there, and the
    row acknowledged.
    """
    tiny = Scope("", data=2, witness=True, voters=1, terms=1)
    result = explore("tiny", tiny, states_max=1000)
    assert (result.states, result.exhausted, result.broken) == (4, True, "")
    explorer = Explorer(tiny)
    state = explorer.first()
    labels = []
    while steps := list(explorer.steps(state)):
        assert len(steps) == 1
        labels.append(steps[0].label)
        state = steps[0].state
    assert labels == [
        "n1 a client commits row 1",
        "n2 receives record 3 (1001)",
        "n1 walsender to n2@1 hears flush 3; acknowledges 1",
    ]
    assert state.acked == 1 << 1


def test_a_scope_is_exhausted_in_the_same_way_each_time() -> None:
    """The whole of one election between two data nodes, in as many states as ever."""
    scope = Scope("", data=2, witness=True, voters=1, writes=0)
    first, again = (explore("", scope, states_max=50_000) for _ in range(2))
    assert first.exhausted
    assert (first.states, first.depth) == (again.states, again.depth)
    assert first.states > 500


def test_scopes_bound_every_kind_of_event() -> None:
    """Each event of fate happens in some scope, and so do modes, sets and sizes."""
    scopes = SCOPES.values()
    for which, event in enumerate(EVENTS):
        assert any(scope.limits[which] for scope in scopes), event
    assert {scope.data for scope in scopes} >= {2, 3, 4, 5}
    assert any(scope.strict for scope in scopes)
    assert any(scope.flights for scope in scopes)
    assert any(scope.slow for scope in scopes)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_planted_mistake_is_noticed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By an invariant that is named beforehand; its word replays it, and only with the mistake."""
    result = run_mutant(name, states_max=MUTANT_STATES)
    assert is_caught(name, result), (result.broken, result.states)
    assert main(["--replay", word_of(name, result.path)]) == 1
    assert f"BROKEN {result.broken}" in capsys.readouterr().out
    count(explore_mutants=1)


def test_a_run_is_recorded_beside_the_seeds(tmp_path: Path) -> None:
    """A line of the explorer stays when seeds are recorded, and is read as it was written."""
    page = tmp_path / "soak.md"
    result = explore("tiny", SCOPES["tiny"], states_max=100)
    line = line_for_record([result], "abc1234")
    record.record_explored(line, page)
    record.record_explored(line, page)
    assert record.read_explored(page) == [line, line]
    assert (line.states, line.exhausted, line.failures) == (result.states, 1, 0)
    assert record.text_of(record.read(page), [line, line]) == page.read_text(encoding="utf-8")


@pytest.mark.parametrize("word", ["nowhere:1.2", "tiny:", "tiny:x"])
def test_a_wrong_word_says_what_to_type(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error is no finding."""
    assert main(["--replay", word]) == 2
    said = capsys.readouterr().out
    assert "./dev sim explore --help" in said or "write it as it was printed" in said
