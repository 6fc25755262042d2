"""Proves `sync show` and `sync set`: the plan before the question, and what is asked for."""

from __future__ import annotations

import json

import msgspec

from pgherd.ledger.levels import LEVEL
from pgherd.model.facts import Mode
from pgherd.model.synctuning import SyncTuning


def test_the_mode_is_shown_and_changed(herd, served, pgherd):
    """Going to async says in capitals what may happen; nothing changes without a yes."""
    url = ("--api-url", served.url)
    herd.current = msgspec.structs.replace(herd.current, level=2)
    assert "quorum: on the primary and 1 of n2, n3" in pgherd("sync", "show", *url).out
    asked = pgherd("sync", "set", "--mode", "async", *url)
    assert asked.code == 2
    assert "plan: mode async" in asked.err
    assert "may LOSE the newest" in asked.err
    assert herd.current.mode is Mode.QUORUM
    done = pgherd("sync", "set", "--mode", "async", "--yes", *url)
    assert done.code == 0, done.err
    assert "async: on the primary alone" in done.out
    assert herd.current.mode is Mode.ASYNC
    assert "async: on the primary alone" in pgherd("status", *url).out
    plan = pgherd("failover", *url).err
    assert "what only it has is lost" in plan


def test_the_number_of_copies_is_changed(herd, served, pgherd):
    url = ("--api-url", served.url)
    herd.current = msgspec.structs.replace(herd.current, level=2)
    done = pgherd("sync", "set", "--num-sync", "2", "--yes", *url, "-o", "json")
    assert json.loads(done.out)["num_sync_standbys"] == 2, done.err
    assert herd.current.num_sync == 2
    again = pgherd("sync", "set", "--num-sync", "auto", "--yes", *url)
    assert (again.code, herd.current.num_sync) == (0, 0), again.err


def test_what_is_no_change_is_refused(served, pgherd):
    url = ("--api-url", served.url)
    assert pgherd("sync", "set", "--yes", *url).code == 2
    assert pgherd("sync", "set", "--mode", "mostly", "--yes", *url).code != 0


async def primary_is_told(herd):
    herd.report_server("n1", commit=herd.current.tuning.commit)


def test_a_weaker_wait_is_said_before_and_after(herd, served, pgherd):
    url = ("--api-url", served.url)
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)
    herd.react = primary_is_told
    words = ("sync", "set", "--synchronous-commit", "local", "--max-lag", "64MB", "--nosync", "3")
    asked = pgherd(*words, *url)
    assert asked.code == 2
    assert "commits are ACKNOWLEDGED before standbys have them on disk" in asked.err
    assert "plan: lag limit 64.0 MB; now none" in asked.err
    done = pgherd(*words, "--yes", *url)
    assert done.code == 0, done.err
    assert "synchronous_commit: local\n" in done.out
    assert "! synchronous_commit = local: a commit is acknowledged once the primary" in done.out
    tuning = herd.current.tuning
    assert (tuning.max_lag_bytes, tuning.nosync) == (64 << 20, ("n3",))
    words = ("--synchronous-commit", "default", "--max-lag", "none", "--sync-all")
    back = pgherd("sync", "set", *words, "--yes", *url)
    assert back.code == 0, back.err
    assert herd.current.tuning == SyncTuning()
    assert pgherd("sync", "set", "--max-lag", "much", "--yes", *url).code == 2
    both = ("--nosync", "n3", "--sync-all")
    assert "do not go together" in pgherd("sync", "set", *both, "--yes", *url).err
