"""`cluster promote|demote` and `init --follow`: what is asked for, told and refused."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from pgherd.cli.standbycluster import hosts_of
from pgherd.config.load import load
from pgherd.daemon.identity import first_facts
from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model.errors import OperatorError
from pgherd.model.standbycluster import Following, Remote


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("a", ["a:5432"]),
        ("a:1,b", ["a:1", "b:5432"]),
        ("host=a,b port=5433", ["a:5433", "b:5433"]),
        ("host=a,b port=1,2", ["a:1", "b:2"]),
        ("host=fd00::1", ["[fd00::1]:5432"]),
        ("[fd00::1]:7", ["[fd00::1]:7"]),
    ],
)
def test_hosts(text: str, hosts: list[str]) -> None:
    assert hosts_of(text) == hosts


@pytest.mark.parametrize(
    "text", ["port=1", "host=a user=b", "host=a,b port=1,2,3", "host=a port=x"]
)
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(OperatorError):
        hosts_of(text)


def test_the_plan_is_shown_before_the_question(herd, served, pgherd) -> None:
    """Nothing happens without a yes; a refusal ends with what to type."""
    url = ("--api-url", served.url)
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)
    asked = pgherd("cluster", "demote", "--to", "far:5432", *url)
    assert asked.code == 2
    assert "n1 ends all sessions" in asked.err
    assert herd.current.follows is None
    assert pgherd("cluster", "promote", *url).code == 2, "it is writable"
    herd.must(cmd.DemoteCluster(herd.current.term, Remote((("far", 5432),)), "ann"))
    status = pgherd("status", *url)
    assert "follows   the remote primary at far:5432 through n1, NOTHING COMES" in status.out
    assert "lease" not in status.out
    refused = pgherd("cluster", "promote", "--force", "--yes", *url)
    assert "FORCED" in refused.err
    assert "is standby leader, and its server is not up" in refused.err
    assert refused.code == 3
    found = pgherd("cluster", "demote", "--to", "near", "--yes", *url, "-o", "json")
    assert json.loads(found.out)["hosts"] == ["near:5432"], found.err


def test_init_follows(pgherd, tmp_path: Path, monkeypatch) -> None:
    """The configuration names the remote, its password is kept, its roles are the remote's."""
    monkeypatch.setattr("pgherd.cli.founding.find_postgres", lambda settings: (None, 15))
    secret = tmp_path / "password"
    secret.write_text("sesame\n")
    where = ("--address", "127.0.0.1", "--base-port", str(pgherd.free_base()))
    words = ("init", "--dir", str(tmp_path / "b1"), "--name", "b1", *where)
    follow = ("--follow", "a:1,b:2", "--follow-slot", "site_b", "--follow-user", "streamer")
    assert "--follow-password-file" in pgherd(*words, *follow).err
    assert "nothing to follow" in pgherd(*words, "--follow-slot", "s").err
    done = pgherd(*words, *follow, "--follow-password-file", str(secret))
    assert done.code == 0, done.err
    settings = load(tmp_path / "b1" / "pgherd.yaml")
    facts = first_facts(settings)
    remote = Remote((("a", 1), ("b", 2)), slot="site_b")
    assert (facts.follows, facts.level) == (Following(remote, reason="made so"), LEVEL)
    assert settings.postgresql.replication.username == "streamer"
    assert (tmp_path / "b1" / "secrets" / "replication").read_text() == "sesame\n"
    assert settings.postgresql.superuser.password is None
