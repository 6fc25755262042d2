"""Proves that every message, Ready and state of the told scenarios is what is written down.

The files are tests/data/raft/*.txt; scenario.py explains their language.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.unit.raft.scenario import played

FILES = sorted((Path(__file__).parents[2] / "data" / "raft").glob("*.txt"))


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
