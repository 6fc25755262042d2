"""The tree keeps its form: sizes, docstrings, links, words, and nothing of any one machine."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "pgherd"
ELSEWHERE = {".git", ".venv", "build", "dist", "node_modules", "__pycache__", ".hypothesis"}
TEXTS = (
    *(".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".in", ".sh", "dev", "run"),
    *(".js", ".css", ".html"),
)
LINE_MAX = 100
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

MACHINE_PATHS = re.compile("|".join(("/wo" + r"rk/", "/ro" + r"ot/", "/home/" + r"\w")))
REGISTRIES = re.compile(
    "|".join(
        (
            *("pypi" + r"\.org", "python" + r"hosted\.org", "npm" + r"js\.", "deb" + r"ian\.org"),
            *("--(extra-)?index-" + "url", "--trusted" + "-host", "--find" + "-links"),
        )
    )
)
UNWANTED_WORDS = {
    "master": "primary",
    "slave": "replica",
    "whitelist": "allow list",
    "blacklist": "deny list",
}
"""word that our prose does not use -> the glossary's word; other systems' names are exempt."""

NEEDED_WORDS = """
member node witness primary replica candidate term epoch lease timeline position policy observation
report plan action rule ledger facts phase seal gate floor incarnation generation quorum reign
promise
"""

LEAN = {
    "pgherd.daemon.supervise": ("asyncio", "pydantic", "structlog", "psycopg", "typer", "rich"),
    "pgherd.relay.proxy": ("pydantic", "structlog", "psycopg", "sqlite3", "typer", "rich"),
    "pgherd.telemetry.logs": ("rich",),
    "pgherd.config.load": ("structlog", "psycopg", "fastapi", "rich"),
    "pgherd.daemon.datamember": ("psycopg", "typer", "rich", "cryptography"),
    "pgherd.daemon.main": (
        "pgherd.daemon.vips",
        "pgherd.postgres.server",
        "psycopg",
        "typer",
        "rich",
        "cryptography",
    ),
}
"""module -> what it must not import, not even through others (memory of a node, DESIGN.md 1)."""


def files(*endings: str) -> Iterator[Path]:
    """Every file of the tree with one of these endings, generated directories left out."""
    for directory, names, found in os.walk(ROOT):
        names[:] = [
            name
            for name in names
            if name not in ELSEWHERE and not name.endswith(("_cache", ".egg-info"))
        ]
        for name in found:
            path = Path(directory, name)
            if name.endswith(endings) and not path.is_symlink():
                yield path


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def texts() -> Iterator[tuple[str, str]]:
    """Every text of ours as (name, content)."""
    for path in files(*TEXTS):
        yield name_of(path), path.read_text(encoding="utf-8")


def sources() -> Iterator[tuple[str, str, ast.Module]]:
    """Every module of the package as (name, content, tree)."""
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        yield name_of(path), text, ast.parse(text)


def complain(found: list[str]) -> None:
    assert not found, "\n" + "\n".join(found)


def test_lines_fit() -> None:
    """Of scripts and examples; ruff sees to Python."""
    complain(
        [
            f"{name}:{number}: {len(line)} characters"
            for name, text in texts()
            if not name.endswith((".md", ".txt", ".toml", ".py"))
            for number, line in enumerate(text.splitlines(), start=1)
            if len(line) > LINE_MAX
        ]
    )


def test_modules_are_one_idea() -> None:
    complain(
        [
            f"{name}: {text.count(chr(10))} lines, look for the second idea inside it"
            for name, text, _ in sources()
            if text.count("\n") > MODULE_LINES_MAX
        ]
    )


def test_functions_fit_a_screen() -> None:
    complain(
        [
            f"{name}:{node.lineno}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
            for name, _, tree in sources()
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.end_lineno is not None
            and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
        ]
    )


def test_modules_open_with_what_they_are_for() -> None:
    complain(
        [name for name, text, tree in sources() if text.strip() and not ast.get_docstring(tree)]
    )


def test_tests_open_with_what_they_prove() -> None:
    complain(
        [
            name_of(path)
            for path in (ROOT / "tests").rglob("test_*.py")
            if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        ]
    )


def test_rooms_say_what_they_own_and_leave() -> None:
    found = []
    for room in sorted(path for path in SOURCE.iterdir() if list(path.glob("*.py"))):
        init = room / "__init__.py"
        doc = ast.get_docstring(ast.parse(init.read_text())) if init.exists() else None
        if not doc or "Owns" not in doc or "leaves" not in doc.lower():
            found.append(f"{name_of(init)}: say what the room owns and what it leaves to others")
    complain(found)


def test_rooms_stand_in_the_layers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    placed = {room.strip(" ()") for layer in layers for room in layer.split("|")}
    rooms = {path.name for path in SOURCE.iterdir() if list(path.glob("*.py"))}
    assert rooms <= placed, rooms - placed


def test_links_in_documents_resolve() -> None:
    found = []
    for path in files(".md"):
        text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            goal = (path.parent / file) if file else path
            if not goal.exists():
                found.append(f"{name_of(path)}: {target} does not exist")
            elif anchor and anchor not in anchors(goal):
                found.append(f"{name_of(path)}: {target} has no such heading")
    complain(found)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_nothing_names_this_machine() -> None:
    complain(
        [
            f"{name}: {found[0]}"
            for name, text in texts()
            if (found := MACHINE_PATHS.search(text)) is not None
        ]
    )


def test_nothing_names_a_registry() -> None:
    complain(
        [
            f"{name}: {found[0]}"
            for name, text in texts()
            if name != "dev" and (found := REGISTRIES.search(text)) is not None
        ]
    )


def test_prose_uses_the_glossarys_words() -> None:
    found = []
    for name, text in prose():
        for word, ours in UNWANTED_WORDS.items():
            if re.search(rf"\b{word}s?\b", text, flags=re.IGNORECASE):
                found.append(f"{name}: write {ours}, not {word}")
    complain(found)


def prose() -> Iterator[tuple[str, str]]:
    """Documents and docstrings; pages about other systems' names are exempt."""
    for path in files(".md"):
        if name_of(path) not in ("docs/reference/configuration.md", "docs/glossary.md"):
            yield name_of(path), path.read_text(encoding="utf-8")
    for name, _, tree in sources():
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        docs = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
        yield name, "\n".join(docs)


def test_the_glossary_owns_the_words_of_the_code() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = set(re.findall(r"^\| \*\*([^*]+)\*\*", text, flags=re.MULTILINE))
    needed = set(NEEDED_WORDS.split())
    assert needed <= words, needed - words
    assert sorted(words) == sorted(set(words))


def test_pins_carry_hashes_and_cover_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        "run": [*project["dependencies"], *project["optional-dependencies"]["demo"]],
        "dev": [*project["dependencies"], *project["optional-dependencies"]["dev"]],
    }
    for name, requirements in wanted.items():
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        entries = re.split(r"\n(?=[A-Za-z0-9])", text)[1:]
        assert entries
        complain([entry for entry in entries if "--hash=sha256:" not in entry])
        pinned = {normal(entry) for entry in entries}
        assert {normal(one) for one in requirements} | {"setuptools"} <= pinned, name


def normal(requirement: str) -> str:
    """A requirement's project name in its canonical form."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


@pytest.mark.parametrize("script", ["dev", ".ci/run"])
def test_scripts_are_posix_shell(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", str(path)], check=True)
    bashisms = re.compile(r"\[\[|\bfunction \w|\blocal \w|<<<|\$\{\w+\[|\[ [^]]*==")
    complain([line for line in path.read_text().splitlines() if bashisms.search(line)])


def test_dev_lists_its_commands_and_the_readme_has_them() -> None:
    said = subprocess.run([str(ROOT / "dev")], capture_output=True, text=True, check=True).stdout
    listed = set(re.findall(r"^\./dev (\w+)", said, flags=re.MULTILINE))
    text = (ROOT / "dev").read_text()
    handled = set(re.findall(r"^([a-z]+)\)$", text, flags=re.MULTILINE))
    assert listed == handled
    documents = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    complain([name for name in sorted(listed) if f"./dev {name}" not in documents])


def test_generated_pages_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "docs" / "make.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_changes_are_told_to_who_upgrades() -> None:
    for fragment in (ROOT / "changelog.d").glob("*.md"):
        text = fragment.read_text(encoding="utf-8").strip()
        assert text, fragment.name
        assert not text.startswith("#"), f"{fragment.name}: one paragraph, no heading"


@pytest.mark.parametrize("module", sorted(LEAN))
def test_processes_stay_lean(module: str) -> None:
    if not (ROOT / "src" / Path(*module.split("."))).with_suffix(".py").exists():
        pytest.skip(f"{module} is not written yet")
    code = f"import {module}, sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & set(LEAN[module])
