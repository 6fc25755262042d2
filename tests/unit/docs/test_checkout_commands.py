"""Every `./dev ...` that a document tells people to type exists, with each of its options.

Held against the text of what it runs: options are looked for, not tried. README lists all benches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WRITTEN = sorted(path for pattern in ("*.md", "docs/**/*.md") for path in ROOT.glob(pattern))
CALL = re.compile(r"\./dev ([a-z]+)((?: [^\s`;)(|#]+)*)")
SOURCES = {
    "bench": ("bench/{}.py", "bench/lib/*.py"),
    "sim": ("src/pgherd/sim/**/*.py",),
    "chaos": ("src/pgherd/chaos/**/*.py",),
    "demo": ("src/pgherd/cli/*.py",),
    "deb": ("packaging/deb.py",),
    "docs": ("docs/make.py", "dev"),
    "test": ("tests/run_suites.py", "dev"),
    "check": ("tests/run_suites.py",),
    "majors": ("tests/majors.py",),
}
"""command -> the files that know its options; {} is its first word."""


def calls() -> Iterator[tuple[str, str, list[str]]]:
    for path in WRITTEN:
        for command, rest in CALL.findall(path.read_text(encoding="utf-8")):
            words = [word.rstrip(",.:]").lstrip("[") for word in rest.split()]
            yield str(path.relative_to(ROOT)), command, words


def complaint(command: str, words: list[str]) -> str:
    """What is wrong with a command line; empty when nothing is."""
    if not re.search(rf"^{command}\)$", (ROOT / "dev").read_text(), re.MULTILINE):
        return "no such command"
    name = words[0] if words else ""
    if command == "bench" and name != "NAME" and not (ROOT / "bench" / f"{name}.py").exists():
        return f"no such bench: {name}"
    files = [
        file for pattern in SOURCES.get(command, ()) for file in ROOT.glob(pattern.format(name))
    ]
    known = "".join(file.read_text() for file in files)
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    lacking = [one for one in options if not re.search(rf"{one}(?![\w-])", known)]
    return f"no such option: {lacking}" if lacking else ""


def test_what_is_to_be_typed_in_a_checkout_is_there() -> None:
    found = list(calls())
    assert len(found) > 60
    assert not [
        (path, command, words, why)
        for path, command, words in found
        if (why := complaint(command, words))
    ]


@pytest.mark.parametrize(
    ("command", "words", "why"),
    [
        ("nothing", [], "no such command"),
        ("bench", ["nothing"], "no such bench"),
        ("bench", ["failover", "--nothing"], "no such option"),
        ("demo", ["--onc"], "no such option"),
    ],
)
def test_what_is_not_there_is_found(command: str, words: list[str], why: str) -> None:
    assert complaint(command, words).startswith(why)


def test_the_readme_lists_every_bench() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    benches = sorted(path.stem for path in (ROOT / "bench").glob("*.py"))
    assert not [name for name in benches if f"| `./dev bench {name}" not in text]
