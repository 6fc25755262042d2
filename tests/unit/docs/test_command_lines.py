"""Every `pgherd ...` that a document tells people to type exists, with each of its options.

Taken from fenced blocks and from code within sentences, of all documents and the rules of alerts;
held against the commands themselves. What an option's value may be, and what a command does, is for
others to test.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgherd.cli.reference import commands

ROOT = Path(__file__).parents[3]
WRITTEN = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "changelog.d/*.md", "examples/prometheus/*.yaml")
    for path in ROOT.glob(pattern)
)
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`(pgherd\s[^`]+)`(?!`)")
CALL = re.compile(r"(?:^|[(;|&]|\$ )\s*(?:sudo -u \w+ |\w+=\S+ )*pgherd\s+(?=[a-z-])(.*)")
ENDS = re.compile(r"\s#|&&|\|\||[;|)]|\s>|\.\.\.")
PLACEHOLDER = re.compile(r"[A-Z][A-Z_0-9]*|\[.*|.*\]")
COMMANDS: dict[str, Any] = dict(commands())
GROUPS = {
    " ".join(words.split()[:count])
    for words in COMMANDS
    for count in range(1, words.count(" ") + 1)
}
HELP = {"--help", "-h"}
SHORT_WAYS = {"wal-push", "wal-fetch"}
"""Programs for PostgreSQL, which `cli.main` answers before there are commands."""
MESSAGES = ("keeps ", "made a mistake")
"""Sentences that begin with our name and are quoted."""


def lines_of(text: str) -> Iterator[str]:
    """What stands behind `pgherd` wherever it is a command line."""
    for _, language, block in FENCED.findall(text):
        joined = re.sub(r"\\\n\s*", " ", block)
        for line in joined.splitlines():
            if language in ("sh", "") and not line.lstrip().startswith("#"):
                found = CALL.search(line)
                is_call = language == "sh" or line.lstrip().startswith(("$ ", "pgherd "))
                if found and is_call:
                    yield found[1]
    for span in SPAN.findall(FENCED.sub("", text)):
        said = " ".join(span.split()[1:])
        if not said.startswith(MESSAGES):
            yield said


def words_of(line: str) -> list[str]:
    """The words of one command, without what comes behind it."""
    quoted = re.sub(r"'[^']*'|\"[^\"]*\"", "VALUE", line)
    first = ENDS.split(quoted, maxsplit=1)[0]
    try:
        return shlex.split(first)
    except ValueError:
        return first.split()


def complaint(line: str) -> str:
    """What is wrong with a command line; empty when nothing is."""
    words = [word.rstrip(",.:") for word in words_of(line)]
    if words[:1] and words[0] in SHORT_WAYS:
        return ""
    name = ""
    while words and f"{name} {words[0]}".strip() in GROUPS | COMMANDS.keys():
        name = f"{name} {words.pop(0)}".strip()
        if name in COMMANDS:
            break
    if name not in COMMANDS:
        goes_on = bool(words) and words[0] not in HELP and not PLACEHOLDER.fullmatch(words[0])
        return f"there is no command {name} {words[0]}".replace("  ", " ") if goes_on else ""
    command = COMMANDS[name]
    known = HELP | {one for param in command.params for one in (*param.opts, *param.secondary_opts)}
    for word in words:
        if word.strip("[") == "--":
            break
        option = word.strip("[]").split("=")[0]
        if option.startswith("-") and option not in known and not re.fullmatch(r"-\d+", option):
            return f"pgherd {name} has no {option}"
    return ""


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_documents_say_can_be_typed(path: Path) -> None:
    found = [
        f"{complaint(line)}: pgherd {line}"
        for line in lines_of(path.read_text(encoding="utf-8"))
        if complaint(line)
    ]
    assert not found, "\n".join(found)


def test_every_group_of_commands_is_told_of() -> None:
    """By a page that people write, not only by the generated list."""
    told = set()
    for path in WRITTEN:
        if "reference" not in path.parts:
            for line in lines_of(path.read_text(encoding="utf-8")):
                told |= set(words_of(line)[:1])
    untold = {name.split()[0] for name in COMMANDS} - told
    assert not untold, untold


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("switchover --to n2 --yes", ""),
        ("switchover --candidate n2", "pgherd switchover has no --candidate"),
        ("swichover", "there is no command swichover"),
        ("config hba", ""),
        ("config hba shw", "there is no command config hba shw"),
        ("psql -- -Atc x --nothing", ""),
        ("status --watch | grep --no-such x", ""),
        ("reinit n2 [--from n3, --from-leader]", ""),
        ("COMMAND --help", ""),
    ],
)
def test_what_is_noticed(line: str, said: str) -> None:
    assert complaint(line) == said


def test_where_command_lines_are_found() -> None:
    text = """
Type `pgherd status`, or `pgherd
explain n2`; not `pgherd.yaml`.
```sh
sudo -u postgres pgherd init \\
    --name n1
PGHERD_TOKEN=x pgherd audit
# pgherd never
```
```
pgherd version
a pgherd output line
```
"""
    found = [" ".join(words_of(line)) for line in lines_of(text)]
    assert found == ["init --name n1", "audit", "version", "status", "explain n2"]
