"""Files that somebody broke: 1,000 of them, 10,000 with PGHERD_FULL=1. Each ends in settings, or in
problems of one line each that say where they are; a file of another system never loads."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pgherd.config.describe import walk
from pgherd.config.generate import generate
from pgherd.config.load import load, load_text
from pgherd.config.others import products
from pgherd.config.problems import ConfigError, Problem

ROOT = Path(__file__).parents[3]
FILES = 10_000 if os.environ.get("PGHERD_FULL") else 1_000
BATCHES = 10
EXAMPLES = [path.read_text() for path in sorted((ROOT / "examples").glob("*.yaml"))]
THEIRS = [key for product in products() for key in product.keys]
OURS = [described.key for described in walk() if not described.is_section]
VALUES = (
    *("1", "-1", "0", "true", "off", "null", "~", "1s", "16MB", "1.5", "1e9", "''", "[]", "{}"),
    *("x", "::1", "10.0.0.1", "/x", "file:/x", "env:X", "[1, {a: b}]", "{a: {b: c}}", "!!python/x"),
    *("*a", "&a 1", "|", "'", '"', "\t", "\x00", "é" * 300, "9" * 400, "- - -", "%", "@", "? x"),
)
LETTERS = "\x00\t\n#':[{\u2028\ud7ff"
Damage = Callable[[random.Random, list[str]], None]


def drop(rng: random.Random, lines: list[str]) -> None:
    del lines[rng.randrange(len(lines))]


def double(rng: random.Random, lines: list[str]) -> None:
    lines.insert(rng.randrange(len(lines)), rng.choice(lines))


def swap(rng: random.Random, lines: list[str]) -> None:
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]


def cut(rng: random.Random, lines: list[str]) -> None:
    at = rng.randrange(len(lines))
    lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]


def indent(rng: random.Random, lines: list[str]) -> None:
    at = rng.randrange(len(lines))
    lines[at] = rng.choice((" ", "  ", "\t", "- ")) + lines[at]


def another_value(rng: random.Random, lines: list[str]) -> None:
    at = rng.randrange(len(lines))
    key, colon, _ = lines[at].partition(":")
    lines[at] = f"{key}{colon} {rng.choice(VALUES)}"


def another_key(rng: random.Random, lines: list[str]) -> None:
    key = rng.choice(rng.choice((THEIRS, OURS)))
    tree = rng.choice(VALUES)
    for step in reversed(key.split(".")):
        tree = f"{{{step}: {tree}}}"
    lines.insert(rng.randrange(len(lines) + 1), tree.removeprefix("{").removesuffix("}"))


def letter(rng: random.Random, lines: list[str]) -> None:
    at = rng.randrange(len(lines))
    text = lines[at]
    where = rng.randrange(len(text) + 1)
    lines[at] = (
        text[:where]
        + chr(rng.choice((0, 9, 10, 35, 39, 58, 91, 123, 0x2028, 0xD7FF)))
        + text[where:]
    )


DAMAGES: tuple[Damage, ...] = (
    *(drop, double, swap, cut, indent, another_value, another_value, another_key, letter),
)


def broken(rng: random.Random) -> str:
    lines = rng.choice(EXAMPLES).splitlines()
    for _ in range(rng.randrange(1, 5)):
        if lines:
            rng.choice(DAMAGES)(rng, lines)
    return "\n".join(lines)


def check(text: str) -> bool:
    """Whether it loads; if not, every problem is one line that says where it is."""
    problems: tuple[Problem, ...] = ()
    try:
        load_text(text, file="f.yaml", env={"PGHERD_SUPERUSER_PASSWORD": "x"})
        return True
    except ConfigError as error:
        problems = error.problems
    assert problems
    for problem in problems:
        assert problem.place.startswith("f.yaml"), problem
        assert problem.message
        assert "\n" not in str(problem)
    return False


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_broken_file_ends_in_settings_or_in_problems(batch: int) -> None:
    loaded = 0
    for number in range(FILES // BATCHES):
        seed = f"{batch}/{number}"
        text = broken(random.Random(seed))
        try:
            loaded += check(text)
        except Exception as error:
            raise AssertionError(f"seed {seed}:\n{text}") from error
    assert 0 < loaded < FILES // BATCHES, "some of the damage matters, and some does not"


def test_bytes_that_are_no_text_are_one_problem(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    rng = random.Random(87)
    for _ in range(50):
        file.write_bytes(generate().encode()[: rng.randrange(400)] + rng.randbytes(40) + b"\xff")
        with pytest.raises(ConfigError) as refused:
            load(file)
        [problem] = refused.value.problems
        assert isinstance(problem, Problem)
        assert problem.message == "is not UTF-8 text"


@pytest.mark.fault(87)
def test_a_file_of_another_system_never_loads() -> None:
    """Whatever part of it: it has no version and no node of ours."""
    rng = random.Random(8)
    for product in products():
        for _ in range(20):
            keys = rng.sample(sorted(product.keys), k=min(8, len(product.keys)))
            assert not check(yaml.safe_dump({key.split(".")[0]: {"x": 1} for key in keys}))
