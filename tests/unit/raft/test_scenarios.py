"""Proves that every message, Ready and state of the told scenarios is what is written down.

The files are tests/data/raft/*.txt; scenario.py explains their language.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.raft.scenario import Scenario

FILES = sorted((Path(__file__).parents[2] / "data" / "raft").glob("*.txt"))
MARK = "----"


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """The parts of a file, as (what comes before the output, output)."""
    for part in text.strip().split("\n\n"):
        head, mark, output = part.partition(f"\n{MARK}\n")
        yield head + mark, output


def played(text: str) -> str:
    """The same file, with the output that its commands have now."""
    scenario = Scenario()
    parts = []
    for head, _ in blocks(text):
        command = head.removesuffix(f"\n{MARK}\n").splitlines()[-1]
        if command.startswith("#"):
            parts.append(head)
            continue
        printed = "\n".join(scenario.run_command(command))
        parts.append(f"{head.removesuffix(f'{chr(10)}{MARK}{chr(10)}')}\n{MARK}\n{printed}")
    return "\n\n".join(parts) + "\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario_plays_as_written(path: Path) -> None:
    """Full output, compared as text."""
    text = path.read_text(encoding="utf-8")
    now = played(text)
    if os.environ.get("PGHERD_GOLDEN") == "1":
        path.write_text(now, encoding="utf-8")
    else:
        assert now == text


def test_there_are_scenarios() -> None:
    """An empty folder must not pass for a proof."""
    assert len(FILES) >= 8
