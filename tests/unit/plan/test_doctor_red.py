"""Every check of `pgherd doctor` has a test in which it is red on its fault itself, by name.

The list is `tests/data/doctor/red.txt`; what stands there has to be so as far as a reader can tell:
the test exists, and its file speaks of the check.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from pgherd.plan.doctor.checks import BY_ID

ROOT = Path(__file__).parents[3]
LIST = ROOT / "tests" / "data" / "doctor" / "red.txt"


def listed() -> Iterator[tuple[str, str]]:
    """Checks, each with its test."""
    test = ""
    for line in LIST.read_text().splitlines():
        if line.startswith(" "):
            yield from ((check, test) for check in line.split())
        elif line and not line.startswith("#"):
            test = line


def test_every_check_is_red_somewhere() -> None:
    """By one test each."""
    proven = [check for check, _ in listed()]
    assert len(set(proven)) == len(proven)
    assert set(proven) == set(BY_ID)


def test_the_tests_exist_and_speak_of_their_checks() -> None:
    for check, test in listed():
        path, _, function = test.partition("::")
        text = (ROOT / path).read_text()
        names = {n.name for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)}
        assert function in names, test
        assert f'"{check}"' in text, (check, path)
