"""Log lines of ours and of libraries leave in one form, text or JSON, each on one line."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from pgherd.telemetry import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Other tests find logging as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_lines_carry_every_field(tmp_path: Path) -> None:
    file = tmp_path / "log"
    writer = logs.set_up(level="info", form="json", file=file, node="n1")
    log = logs.get("act")
    log.info("leader.elected", term=7, rule=203, path=Path("/x"))
    log.debug("not.told")
    logging.getLogger("library").warning("it %s", "rains\nhard")
    assert writer.close()
    first, second = [json.loads(line) for line in file.read_text().splitlines()]
    assert {**first, "at": ""} == {
        "at": "",
        "level": "info",
        "event": "leader.elected",
        "room": "act",
        "term": 7,
        "rule": 203,
        "path": "/x",
        "node": "n1",
    }
    assert second["event"] == "it rains\nhard"
    assert second["level"] == "warning"


def test_text_lines_stay_one_line_whatever_they_are_given(tmp_path: Path) -> None:
    file = tmp_path / "log"
    writer = logs.set_up(form="text", file=file)
    logs.get("act").info("a.b", text="two\nlines here", empty="", odd="\ud800")
    assert writer.close()
    [line] = file.read_text().splitlines()
    assert 'text="two\\nlines here"' in line
    assert 'empty=""' in line


def test_an_exception_is_indented_below_its_line(tmp_path: Path) -> None:
    file = tmp_path / "log"
    writer = logs.set_up(form="text", file=file)
    try:
        raise ValueError("why")
    except ValueError:
        logs.get("act").exception("it.failed")
    assert writer.close()
    lines = file.read_text().splitlines()
    assert "it.failed" in lines[0]
    assert lines[-1] == "    ValueError: why"


def test_the_level_changes_while_running(tmp_path: Path) -> None:
    file = tmp_path / "log"
    writer = logs.set_up(level="error", file=file)
    logs.get("act").info("hidden")
    logs.set_level("debug")
    logs.get("act").debug("shown")
    assert writer.close()
    assert "hidden" not in file.read_text()
    assert "shown" in file.read_text()
