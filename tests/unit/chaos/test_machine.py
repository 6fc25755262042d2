"""Who cannot hold nodes apart is told what is missing and what to type, and nothing is started."""

from __future__ import annotations

import os
import shutil

import pytest

from pgherd.chaos import machine
from pgherd.chaos.__main__ import main
from pgherd.chaos.report import CANNOT


def test_without_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["--minutes", "1"]) == CANNOT
    said = capsys.readouterr().err
    assert "need root" in said
    assert "--loopback" in said
    assert "sudo ./dev chaos" in said


def test_missing_programs_are_named_by_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "nft" else f"/bin/{tool}")
    monkeypatch.setattr(os, "access", lambda *_: True)
    [missing] = machine.missing()
    assert "nftables" in missing.what
    assert missing.command.startswith("apt-get install nftables")


def test_a_kind_that_the_ground_does_not_allow(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--loopback", "--only", "primary.isolated"]) == CANNOT
    assert "primary.isolated" in capsys.readouterr().err


def test_a_kind_that_nobody_knows() -> None:
    with pytest.raises(SystemExit):
        main(["--only", "no.such.kind"])


def test_a_program_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="sh -c"):
        machine.run("sh", "-c", "echo no >&2; exit 3")
    assert machine.run("cat", text="heard") == "heard"
