"""Proves `sync show` and `sync set`: the plan before the question, and what is asked for."""

from __future__ import annotations

import json

import msgspec

from pgherd.model.facts import Mode


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
