"""PostgreSQL's parameters for all members: told, refused, ordered, rolled back. On real servers."""

from __future__ import annotations

import signal
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from checkups import until_red

from pgherd.proof import layout
from pgherd.proof.client import NoAnswer
from pgherd.proof.herd import LocalHerd
from pgherd.proof.history import History, Outcome
from pgherd.proof.processes import send
from pgherd.proof.trials import judge
from pgherd.proof.writers import Writers

StartWriters = Callable[..., Writers]
SOON_S = 30.0
UNAVAILABLE_S = 60.0


def change(herd: LocalHerd, name: str, /, *, query: str = "wait=20", **parameters: Any) -> Any:
    """Ask one node for other parameters."""
    body = {"postgresql": {"parameters": parameters}, "reason": "a test"}
    return herd.ask(f"/config?{query}", name=name, method="PATCH", body=body, timeout_s=30)


def shown(herd: LocalHerd, name: str, parameter: str) -> str:
    [row] = herd.query(name, f"SHOW {parameter}")
    return str(row[0])


def pending(herd: LocalHerd, name: str) -> dict[str, tuple[str, str]]:
    """What a node's server waits for, by `GET /nodes/{id}`."""
    found = herd.ask(f"/nodes/{name}")["pending_restart"] or {}
    return {key: (one["old"], one["new"]) for key, one in found.items()}


def until_pending(herd: LocalHerd, name: str, **waits: tuple[str, str]) -> None:
    herd.wait_for(
        lambda: pending(herd, name) == waits, f"{name} with pending {waits}", deadline_s=SOON_S
    )


def restart_server(herd: LocalHerd, name: str, **values: str) -> None:
    """Stop a standby's server; its agent starts it, and it has these values and streams."""
    send([herd.postmaster_pid(name)], signal.SIGINT)
    for parameter, value in values.items():
        herd.wait_for(
            lambda parameter=parameter, value=value: shown(herd, name, parameter) == value,  # type: ignore[misc] # binds both
            f"{parameter} = {value} on {name}",
            deadline_s=SOON_S,
        )
    herd.wait_stable(60)


def test_parameters_reach_every_server(herd: LocalHerd) -> None:
    """A change is checked by the primary, kept with author and reason, and taken up by all."""
    primary = herd.wait_primary()
    asked = next(name for name in herd.nodes if name != primary)
    file = layout.read_settings(herd.places[asked])
    before = herd.ask("/config")["version"]

    for wrong, words in (
        ({"maintenance_work_mem": "1kB"}, ("out of range", "2147483647", "kB")),
        ({"maintenance_work_mem": "lots"}, ("not a number", "MB")),
        ({"wal_compression": "perhaps"}, ("write one of", "pglz")),
        ({"block_size": 4096}, ("cannot be set",)),
        ({"maintenance_wrok_mem": "8MB"}, ("no such parameter", "maintenance_work_mem")),
        ({"fsync": False}, ("belongs to pgherd", "no acknowledged commit")),
        ({"max_wal_senders": 2}, ("needs at least",)),
        ({"log_timezone": "Mars/Olympus"}, ("PostgreSQL says", "log_timezone")),
    ):
        with pytest.raises(NoAnswer) as refusal:
            change(herd, asked, **wrong)
        assert refusal.value.status == 422
        assert all(word in str(refusal.value) for word in words), str(refusal.value)
    assert herd.ask("/config")["version"] == before

    planned = change(herd, asked, query="dry_run=1", max_connections=140)
    assert [one["action"] for one in planned["steps"][-3:]] == ["restart", "restart", "switchover"]
    assert planned["steps"][-1]["node"] == primary
    assert herd.ask("/config")["version"] == before

    done = change(herd, asked, maintenance_work_mem="70MB")
    assert (done["status"], done["version"]) == ("done", before + 1)
    assert [shown(herd, name, "maintenance_work_mem") for name in herd.nodes] == ["70MB"] * 3
    newest = herd.ask("/config/history")["versions"][0]
    assert (newest["version"], newest["reason"]) == (before + 1, "a test")
    assert newest["author"]
    assert newest["at"]

    herd.reload_node(asked, {"postgresql": {"parameters": {"maintenance_work_mem": "66MB"}}})
    herd.wait_for(
        lambda: shown(herd, asked, "maintenance_work_mem") == "66MB",
        "the node's own value",
        deadline_s=SOON_S,
    )
    assert shown(herd, primary, "maintenance_work_mem") == "70MB"
    layout.write_settings(herd.places[asked], file)
    herd.reload_node(asked, {})
    herd.wait_for(
        lambda: shown(herd, asked, "maintenance_work_mem") == "70MB",
        "the cluster's value again",
        deadline_s=SOON_S,
    )

    body = {"version": before}
    herd.ask("/config/rollback?wait=20", name=asked, method="POST", body=body, timeout_s=30)
    assert herd.ask("/config")["version"] == before + 2
    assert shown(herd, primary, "maintenance_work_mem") == "64MB"


def longest_silence_s(history: History) -> float:
    """The longest time in which no write of anybody was acknowledged."""
    told = [a.finished for a in history.attempts if a.outcome is Outcome.ACKNOWLEDGED]
    times = [history.began, *sorted(told), history.ended]
    return max(after - before for before, after in pairwise(times))


def test_what_standbys_must_match_goes_up_and_down_under_load(
    herd: LocalHerd, start_writers: StartWriters
) -> None:
    """Standbys first on the way up, the primary first on the way down; every write is kept.

    Where a member with more is elected too early the others follow by themselves.
    """
    writers = start_writers(via="proxy", count=2)
    primary = herd.wait_primary()
    first, second = (name for name in herd.nodes if name != primary)
    had = shown(herd, primary, "max_connections")
    change(herd, primary, max_connections=140)
    for name in (first, second):
        until_pending(herd, name, max_connections=(had, "140"))
    assert pending(herd, primary) == {}
    restart_server(herd, first, max_connections="140")
    assert pending(herd, primary) == {}
    restart_server(herd, second, max_connections="140")
    until_pending(herd, primary, max_connections=(had, "140"))

    herd.switchover(to=first)
    herd.wait_primary(other_than=primary)
    herd.wait_stable(60)
    assert {shown(herd, name, "max_connections") for name in herd.nodes} == {"140"}

    change(herd, first, max_connections=120)
    until_pending(herd, first, max_connections=("140", "120"))
    assert pending(herd, second) == {}
    herd.switchover(to=second)
    herd.wait_primary(other_than=first)
    assert shown(herd, second, "max_connections") == "120"
    assert shown(herd, second, "transaction_read_only") == "off"
    herd.wait_stable(60)
    for name in (first, primary):
        if shown(herd, name, "max_connections") != "120":
            until_pending(herd, name, max_connections=("140", "120"))
            restart_server(herd, name, max_connections="120")

    change(herd, first, max_connections=130)
    until_pending(herd, first, max_connections=("120", "130"))
    restart_server(herd, first, max_connections="130")
    herd.switchover(to=first)  # before the others have it: they stop replaying, and restart
    for name in herd.nodes:
        herd.wait_for(
            lambda name=name: shown(herd, name, "max_connections") == "130",  # type: ignore[misc] # binds it
            f"max_connections = 130 on {name}",
            deadline_s=SOON_S,
        )
    herd.wait_stable(60)
    history = writers.stop()
    verdict = judge(herd, history)
    assert verdict.clean, str(verdict)
    assert longest_silence_s(history) < UNAVAILABLE_S


def test_a_version_that_keeps_a_server_down_is_taken_back(herd: LocalHerd) -> None:
    """The server comes up with what it had; the version is marked with its words, for all."""
    primary = herd.wait_primary()
    name = next(one for one in herd.nodes if one != primary)
    good = herd.ask("/config")["postgresql"]["parameters"]
    bad = change(herd, primary, shared_preload_libraries="no_such_library")["version"]
    until_pending(herd, name, shared_preload_libraries=("", "no_such_library"))
    send([herd.postmaster_pid(name)], signal.SIGINT)
    herd.wait_for(lambda: herd.ask("/config")["version"] == bad + 1, "way back", deadline_s=SOON_S)
    herd.wait_stable(60)
    assert herd.ask("/config")["postgresql"]["parameters"] == good
    marked = next(one for one in herd.ask("/config/history")["versions"] if one["version"] == bad)
    assert marked["failed_on"] == name
    assert "no_such_library" in marked["failed"]
    until_red(herd, primary, ("herd.config_failed", ""))
    for one in herd.nodes:
        until_pending(herd, one)
        assert shown(herd, one, "shared_preload_libraries") == ""
