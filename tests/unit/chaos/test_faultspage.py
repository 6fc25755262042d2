"""The page of faults lists every row, and credits none without something that happened."""

from __future__ import annotations

from pgherd.chaos.catalogue import ROWS, SIMULATED
from pgherd.chaos.faultspage import NOT_YET, Marked, cover, page
from pgherd.chaos.kinds import KINDS
from pgherd.sim.faults import KINDS as FAULTS
from pgherd.sim.faults import MOVING


def test_the_catalogue_is_whole() -> None:
    assert list(ROWS) == list(range(1, 91))
    assert len(set(ROWS.values())) == 90


def test_simulated_kinds_exist() -> None:
    assert set(SIMULATED) <= {*FAULTS, *MOVING}
    assert {row for rows in SIMULATED.values() for row in rows} <= ROWS.keys()


def test_a_kind_that_never_struck_covers_nothing() -> None:
    [row] = KINDS["link.down"].rows
    assert cover([], {})[row] == []
    assert cover([], {"link.down": 3})[row] == ["chaos `link.down` (3)"]


def test_tests_come_first_and_once() -> None:
    marked = [Marked(16, "tests/b.py::test_b"), Marked(16, "tests/a.py::test_a")]
    found = cover([*marked, *marked], {"server.hung": 1})[16]
    assert found == [
        "test `tests/a.py::test_a`",
        "test `tests/b.py::test_b`",
        "chaos `server.hung` (1)",
        "simulated `server.hung`",
    ]


def test_every_row_is_on_the_page_and_says_when_nothing_covers_it() -> None:
    text = page([], {})
    for row, title in ROWS.items():
        assert f"| {row} | {title} | " in text
    assert f"| 34 | {ROWS[34]} | {NOT_YET} |" in text
    covered = {row for rows in SIMULATED.values() for row in rows}
    assert f"{len(covered)} of 90 rows are covered, 0 of them outside" in text
