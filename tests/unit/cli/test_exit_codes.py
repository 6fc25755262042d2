"""Proves the exit codes over every command there is: one table of situations, no list of commands.

0 done, 1 failed, 2 usage, 3 refused by policy, 4 no quorum, 5 timed out, 6 not authorised. Commands
are taken from the program itself, with an argument of the right kind for each that is required.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml

from pgherd.api.guard import ApiToken, Role
from pgherd.cli.app import build

NAMED = {"file": "FILE", "which": "replication", "switch": "on"}
"""What a required argument of this name is given; any other one names a node."""
GIVEN: dict[str, tuple[str, ...]] = {
    "restart": ("n1",),
    "maintenance": ("on", "n2"),
    "config set": ("work_mem=8MB",),
    "config plan": ("work_mem=8MB",),
    "raft snapshot save": ("NEW",),
    "config rollback": ("1",),
    "sync set": ("--mode", "strict"),
    "cluster demote": ("--to", "host=10.0.0.9 port=5432"),
    "token create": ("--join",),
    "raft max-voters": ("3",),
    "add-node": ("--name", "n9", "--address", "10.0.0.9"),
    "remove-node": ("--name", "n3"),
}
"""Arguments where that is not enough."""

LOCAL = {
    *("start", "version", "init", "join", "adopt", "demo", "completion", "raft recover"),
    *("config generate", "config validate", "raft snapshot restore", "raft snapshot show"),
    *("cluster create", "cluster destroy", "context list", "context use", "context remove"),
    *("login", "config edit", "stop", "pki issue", "pki renew", "pki show"),
}
"""Commands that ask no daemon, or nothing before a person has had a say."""


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from walk(inner, (*path, name))
    else:
        yield " ".join(path), command


WHOLE = typer.main.get_command(build())
COMMANDS = dict(walk(WHOLE))
SOON = ("status", "nodes", "history", "events", "pause", "switchover", "sync set", "dsn")
"""Commands that are asked of somebody who says nothing: each costs its timeout."""
ASKING = sorted(
    name
    for name, command in COMMANDS.items()
    if name not in LOCAL and any(one.name == "api_url" for one in command.params)
)


def words(name: str, tmp_path: Path) -> list[str]:
    """A whole command line."""
    file = tmp_path / "wanted.yaml"
    file.write_text("work_mem: 8MB\n")
    needed = (
        NAMED.get(str(one.name), "n1")
        for one in COMMANDS[name].params
        if one.param_type_name == "argument" and one.required
    )
    files = {"FILE": str(file), "NEW": str(tmp_path / "new")}
    given = [files.get(word, word) for word in GIVEN.get(name, needed)]
    if any(one.name == "yes" for one in COMMANDS[name].params):
        given.append("--yes")
    return [*name.split(), *given]


def test_there_is_something_to_prove():
    assert {"status", "nodes", "events", "switchover", "sync set", "token create"} <= set(ASKING)
    assert set(GIVEN) <= set(COMMANDS)


@pytest.fixture(autouse=True)
def _built(monkeypatch):
    """The program is put together once, not for every line."""
    monkeypatch.setattr("pgherd.cli.app.build", lambda: WHOLE)


def complain(found: dict[str, Any]) -> None:
    assert not found, "\n".join(f"{name}: {result}" for name, result in found.items())


def test_a_wrong_word_is_usage(pgherd):
    """2, with the word, and nothing on standard output."""
    found = {name: pgherd(*name.split(), "--no-such-option") for name in COMMANDS}
    said = ("no-such-option", "start --help")
    complain(
        {
            name: result
            for name, result in found.items()
            if result.code != 2 or result.out or not any(text in result.err for text in said)
        }
    )


def test_where_nobody_answers(pgherd, tmp_path):
    """1, with what to do next, and nothing on standard output."""
    url = ("--api-url", "http://127.0.0.1:1")
    found = {name: pgherd(*words(name, tmp_path), *url) for name in ASKING}
    complain(
        {
            name: result
            for name, result in found.items()
            if result.code != 1 or result.out or "  next: " not in result.err
        }
    )


def test_where_a_daemon_says_nothing(pgherd, tmp_path):
    """5, for whoever asks."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(200)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        more = ("--api-url", url, "--timeout", "0.1")
        found = {name: pgherd(*words(name, tmp_path), *more) for name in SOON}
    complain({name: result for name, result in found.items() if result.code != 5})


def test_who_are_you(herd, fakes, serving, pgherd, tmp_path):
    """6 without a token, with what to do next."""
    token = ApiToken(name="vera", role=Role.VIEWER, sha256=hashlib.sha256(b"x").hexdigest())
    with serving(fakes.make_app(herd, tokens=(token,))) as served:
        found = {name: pgherd(*words(name, tmp_path), "--api-url", served.url) for name in ASKING}
    complain(
        {
            name: result
            for name, result in found.items()
            if result.code != 6 or "  next: " not in result.err
        }
    )


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (("status",), 0),
        (("switchover", "--to", "n9", "--yes"), 2),
        (("switchover", "--to", "n1", "--yes"), 3),
        (("failover", "--yes"), 3),
        (("switchover", "--to", "n2"), 2),
    ],
)
def test_what_a_daemon_says(served, pgherd, monkeypatch, line, code):
    """Done, unknown, refused by policy; and without a terminal --yes is required."""
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115 - closed with the test
    assert pgherd(*line, "--api-url", served.url).code == code


@pytest.mark.parametrize("name", ["pause", "resume", "switchover", "sync set", "restart", "reload"])
def test_without_a_quorum(herd, served, pgherd, tmp_path, name):
    """4 for whatever changes something; looking goes on."""
    herd.has_quorum = False
    assert pgherd(*words(name, tmp_path), "--api-url", served.url).code == 4
    assert pgherd("status", "--api-url", served.url).code == 0


LOOKS = ("show", "list", "history", "state", "peers", "status", "nodes", "explain", "events")
LOOKING = [
    name
    for name in ASKING
    if name.split()[-1] in (*LOOKS, "progress", "actions", "dsn", "topology")
]


def test_whoever_looks_can_have_it_as_data(served, pgherd):
    """JSON and YAML say the same, and nothing else is on standard output."""
    assert len(LOOKING) >= 12
    for name in LOOKING:
        told = pgherd(*name.split(), "--api-url", served.url, "-o", "json")
        assert told.code == 0, (name, told)
        again = pgherd(*name.split(), "--api-url", served.url, "-o", "yaml")
        assert type(json.loads(told.out)) is type(yaml.safe_load(again.out)), name


SURE = ("maintenance", "edit", "minor")
"""Commands that ask only where the answer is not clear, after an editor, or with work to do."""
CHANGING = [
    name
    for name in ASKING
    if name.split()[-1] not in SURE and any(one.name == "yes" for one in COMMANDS[name].params)
]


def test_without_a_terminal_nothing_is_changed(herd, served, pgherd, tmp_path, monkeypatch):
    """Every command that asks a person says what to add, and asks the daemon for no change."""
    asked = set()
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115 - closed with the test
    for name in CHANGING:
        line = [word for word in words(name, tmp_path) if word != "--yes"]
        result = pgherd(*line, "--api-url", served.url)
        assert result.code == 2, (name, result)
        assert herd.submitted == [], name
        asked |= {name} if "add --yes" in result.err else set()
    assert {"switchover", "failover", "restart", "reinit", "remove-node", "demote"} <= asked
