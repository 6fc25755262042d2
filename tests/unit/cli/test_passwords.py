"""Proves `pgherd passwords show`, `rotate` and `end`."""

from __future__ import annotations

import io

import msgspec
import pytest

from pgherd.ledger.levels import LEVEL
from pgherd.model.credentials import Which
from pgherd.wire import scram


@pytest.fixture
def url(herd, served):
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)
    return ("--api-url", served.url, "--timeout", "1")


def test_a_change_is_planned_begun_and_shown(herd, url, pgherd, monkeypatch):
    monkeypatch.setattr("pgherd.cli.passwords.USED_S", 0.1)
    asked = pgherd("passwords", "rotate", "replication", *url)
    assert (asked.code, herd.given) == (2, None)
    assert "stays valid for 5m" in asked.err
    done = pgherd("passwords", "rotate", "replication", "--overlap", "1h", "--yes", *url)
    assert done.code == 0, done.err
    shown = pgherd("passwords", "show", *url).out
    assert "replication" in shown
    assert "made" in shown
    assert "waits for n1, n2, n3" in shown
    assert pgherd("passwords", "end", "replication", *url).code != 0, "it is not in use yet"
    assert pgherd("passwords", "rotate", "nobody", "--yes", *url).code == 2


def test_only_the_verifier_of_the_superusers_is_sent(herd, url, pgherd, tmp_path, monkeypatch):
    monkeypatch.setattr("pgherd.cli.passwords.USED_S", 0.1)
    file = tmp_path / "secret"
    file.write_text("open sesame\n")
    argv = ("passwords", "rotate", "superuser", "--yes", *url)
    assert pgherd(*argv, "--password-file", str(file)).code == 0
    assert scram.matches(herd.given, "open sesame")
    assert Which.SUPERUSER in herd.current.credentials
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    nobody = pgherd(*argv)
    assert (nobody.code, "--password-file" in nobody.err) == (2, True)
    file.write_text("\n")
    assert pgherd(*argv, "--password-file", str(file)).code == 2
