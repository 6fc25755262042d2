"""Tests that documents name exist, and those that a runbook names type the runbook's commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from pgherd.cli.reference import commands

ROOT = Path(__file__).parents[3]
RUNBOOKS = ROOT / "docs" / "operate" / "runbooks.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)`(?:\s+\(((?:`test_\w+`[,\s]*)+)\))?")
LOOKING = {"status", "explain", "history", "nodes", "raft peers"}
NAMES = sorted((name for name, _ in commands()), key=len, reverse=True)


@cache
def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def named(text: str) -> Iterator[tuple[str, list[str]]]:
    """Files of tests, and the functions that are named of them."""
    for path, functions in NAMED.findall(text):
        yield path, re.findall(r"test_\w+", functions)


def test_every_test_that_is_named_exists() -> None:
    found = []
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")):
        for path, functions in named(page.read_text(encoding="utf-8")):
            name = page.relative_to(ROOT)
            if not (ROOT / path).exists():
                found.append(f"{name}: {path} does not exist")
                continue
            lacking = [one for one in functions if not re.search(rf"def {one}\b", text_of(path))]
            found += [f"{name}: {path} has no {one}" for one in lacking]
    assert not found, "\n".join(found)


def sections() -> dict[str, str]:
    """The runbooks by their headings."""
    parts = re.split(r"^## (.+)$", RUNBOOKS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def changing(section: str) -> set[str]:
    """The commands of a runbook that change something."""
    lines = re.findall(r"pgherd ([a-z][\w -]*)", section)
    found = (
        next((name for name in NAMES if f"{line} ".startswith(f"{name} ")), "") for line in lines
    )
    return {name for name in found if name} - LOOKING


@pytest.mark.parametrize("title", sections())
def test_a_runbooks_tests_type_its_commands(title: str) -> None:
    section = sections()[title]
    files = [path for path, functions in named(section) if functions]
    assert files, "it names no test"
    text = "\n".join(text_of(path) for path in files)
    untyped = {name for name in changing(section) if f'"{name.split()[-1]}"' not in text}
    assert not untyped, f"no test that it names types {untyped}"


def test_there_are_runbooks() -> None:
    assert {"raft recover", "remove-node", "add-node"} <= set().union(
        *map(changing, sections().values())
    )
