"""`pgherd drill`: the plan first, a kill asked for twice, the figures, and what was before."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from pgherd.ledger.levels import LEVEL
from pgherd.model.drill import DrillKind


@pytest.fixture(autouse=True)
def all_new(herd) -> None:
    """Every program understands all commands, and drills end at once."""
    herd.current = replace(herd.current, level=LEVEL)
    herd.drills_take_ms = 620


def test_a_switchover_is_measured(served, pgherd):
    """The plan goes to standard error, the figures to standard output."""
    url = ("--api-url", served.url)
    done = pgherd("drill", "--yes", *url)
    assert done.code == 0, done.err
    assert "plan: probe writes, a switchover from n1, probe writes" in done.err
    assert "n2 would take over, clients are held meanwhile; no acknowledged commit" in done.err
    assert "writes stood still for 620 ms (n2 leads)" in done.out
    assert "80 probe writes acknowledged, 2 failed, 0 missing, through proxy" in done.out
    found = json.loads(pgherd("drill", "--history", *url, "-o", "json").out)["drills"]
    assert [(one["kind"], one["outage_ms"]) for one in found] == [("switchover", 620)]
    assert "620 ms" in pgherd("drill", "--history", *url).out


def test_a_kill_needs_the_name(herd, served, pgherd, monkeypatch):
    """--yes is one answer, and not the second."""
    url = ("--api-url", served.url)
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115 - closed with the test
    assert pgherd("drill", "--kill", *url).code == 2
    asked = pgherd("drill", "--kill", "--yes", *url)
    assert (asked.code, "add --confirm with the cluster's name" in asked.err) == (2, True)
    assert pgherd("drill", "--kill", "--yes", "--confirm", "other", *url).code == 3
    assert pgherd("drill", "--confirm", "main", *url).code == 2
    assert not herd.drilled
    done = pgherd("drill", "--kill", "--yes", "--confirm", "main", *url)
    assert done.code == 0, done.err
    assert "the postmaster of n1 is KILLED" in done.err
    assert herd.drilled[0].kind is DrillKind.KILL


def test_a_worse_one_and_a_failed_one(herd, served, pgherd):
    """A warning is no error, and a failure is."""
    url = ("--api-url", served.url)
    for _ in range(2):
        assert pgherd("drill", "--yes", *url).code == 0
    herd.drills_take_ms = 3000
    worse = pgherd("drill", "--yes", *url)
    assert worse.code == 0
    assert "! worse than before: writes stood still for 3000 ms" in worse.out
    herd.drills_take_ms = None
    herd.begin_drill = lambda begun, _: (
        herd.drilled.append(begun),
        herd.end_drill(700, missing=2),
    )
    failed = pgherd("drill", "--yes", *url)
    assert failed.code == 1
    assert "the drill is failed: 2 acknowledged rows are missing" in failed.err
