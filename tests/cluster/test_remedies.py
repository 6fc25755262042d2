"""A replica in trouble says why and is helped, and copies come from where they are wanted."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tending import ENDED, done, node

from pgherd.proof.herd import LocalHerd
from pgherd.proof.layout import read_settings

COPIED_S = 90.0
RECEIVER_SQL = "SELECT pid FROM pg_stat_wal_receiver"
CLONES_SQL = "SELECT count(*) FROM pg_stat_replication WHERE application_name LIKE 'pgherd-clone-%'"
BY_COMMAND = """#!/bin/sh
set -e
{bin}/pg_basebackup -D "$1" -d "$2" --wal-method=stream --checkpoint=fast --no-password
echo "$PGHERD_CLONE_NODE" > "$1/made-by-command"
"""


def wait_state(herd: LocalHerd, name: str, state: str) -> dict[str, Any]:
    herd.wait_for(lambda: node(herd, name)["state"] == state, f"{name} {state}", deadline_s=60)
    return node(herd, name)


def program(herd: LocalHerd, text: str) -> Path:
    """A command that PostgreSQL's user can run."""
    bin_dir = read_settings(herd.places["n1"])["postgresql"]["bin_dir"]
    path = herd.directory / "clone-command"
    path.write_text(text.format(bin=bin_dir), encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.fault(74)
@pytest.mark.parametrize("stable", ["debian-15"], indirect=True)
def test_a_replica_in_trouble_is_told_and_helped(herd: LocalHerd) -> None:
    """Its password is spoilt: the cause is shown, the re-point mends it, and the book tells it."""
    first = herd.wait_primary()
    other = next(name for name in herd.nodes if name != first)
    passfile = herd.places[other].data.parent / "pgpass"
    good = passfile.read_text(encoding="utf-8")
    spoilt = [f"{line.rpartition(':')[0]}:spoilt\n" for line in good.splitlines()]
    passfile.write_text("".join(spoilt), encoding="utf-8")
    [(receiver,)] = herd.query(other, RECEIVER_SQL)
    os.kill(receiver, signal.SIGTERM)
    stuck: dict[str, Any] = {}

    def says_why() -> bool:
        stuck.update(node(herd, other))
        told = "password authentication failed" in stuck["state_reason"]
        return told and stuck["state"] == "stuck" and not stuck["is_healthy"]

    herd.wait_for(says_why, "the cause in its log", deadline_s=60)
    assert stuck["lag_bytes"] is not None
    wait_state(herd, other, "streaming")

    def helped() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = node(herd, other)["remedies"]
        last = [(one["step"], one["state"]) for one in found[-1:]]
        return found if last == [("re-point", "done")] else []

    book = herd.wait_for(helped, "its remedy in the book", deadline_s=30)
    assert passfile.read_text(encoding="utf-8") == good
    herd.kill_agent(other)
    herd.wait_stable(60)
    herd.wait_for(lambda: node(herd, other)["remedies"] == book, "what it knew", deadline_s=30)


def watched_copy(
    herd: LocalHerd, name: str, *, source: str
) -> list[tuple[dict[str, Any], Any, str]]:
    """Have a node copied anew; progress, clients of the source, and state, as often as seen."""
    asked = herd.ask(f"/nodes/{name}/reinitialize", method="POST", body={}, timeout_s=15.0)
    under_way: list[tuple[dict[str, Any], Any, str]] = []

    def is_over() -> bool:
        found = herd.ask("/progress")["progress"]
        copies = herd.query(source, CLONES_SQL)
        under_way.extend((one, copies, node(herd, name)["state"]) for one in found)
        return bool(herd.ask(f"/actions/{asked['id']}")["state"] in ENDED)

    herd.wait_for(is_over, "the copy", deadline_s=60)
    return under_way


def wait_fit(herd: LocalHerd, name: str) -> None:
    """Until a replica is one that copies are taken from."""

    def is_fit() -> bool:
        seen = node(herd, name)
        return seen["state"] == "streaming" and seen["is_healthy"]

    herd.wait_for(is_fit, f"{name} fit to be copied", deadline_s=60)


def copied_from(
    herd: LocalHerd, name: str, *, source: str
) -> list[tuple[dict[str, Any], Any, str]]:
    """As `watched_copy`, from a replica; asked for anew where it was not fit when its turn came.

    The primary is copied then (docs/operate/replicas.md): nobody waits for a replica.
    """
    until = time.monotonic() + COPIED_S
    while True:
        wait_fit(herd, source)
        seen = watched_copy(herd, name, source=source)
        if {one["source"] for one, _, _ in seen} == {source} or time.monotonic() > until:
            return seen
        herd.wait_stable(60)


@pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)
def test_a_copy_comes_from_where_it_is_wanted(herd: LocalHerd) -> None:
    """From a tagged replica, slowly, with its progress; by a command; from the primary by name."""
    first = herd.wait_primary()
    other, third = (name for name in herd.nodes if name != first)
    herd.reload_node(other, {"node": {"tags": {"clonefrom": True}}})
    herd.wait_for(lambda: node(herd, other)["tags"]["clonefrom"], "the tag", deadline_s=30)
    herd.reload_node(third, {"postgresql": {"clone": {"max_rate": "8MB"}}})
    under_way = copied_from(herd, third, source=other)
    assert {(one["node"], one["phase"], one["source"]) for one, _, _ in under_way} == {
        (third, "copy", other)
    }, herd.tell()
    told = [one for one, _, _ in under_way if one["percent"]]
    assert all(0 < one["done_bytes"] <= one["total_bytes"] for one in told)
    assert told
    assert any(copies != [(0,)] for _, copies, _ in under_way), "its source knows of it"
    assert "rebuilding" in {state for _, _, state in under_way}
    herd.wait_stable(60)

    # By the operator's command, which has made a copy of the same source; then by name.
    command = program(herd, BY_COMMAND)
    clone = {"command": [str(command)], "max_rate": "0B"}
    herd.reload_node(third, {"postgresql": {"clone": clone}})
    wait_fit(herd, other)
    done(herd, f"/nodes/{third}/reinitialize")
    marked = herd.places[third].data / "made-by-command"
    assert marked.read_text(encoding="utf-8").strip() == other
    herd.wait_stable(60)
    done(herd, f"/nodes/{third}/reinitialize", {"from_leader": True})
    assert not marked.exists(), "who names a source wants a plain copy of it"
    book = json.loads((herd.places[third].directory / "raft" / "remedies.json").read_text())
    assert [(one["ending"], one["source"]) for one in book["remedies"]][-3:] == [
        ("done", other),
        ("done", other),
        ("done", first),
    ]
    herd.reload_node(other, {"node": {"tags": {"clonefrom": False}}})
    herd.reload_node(third, {"postgresql": {"clone": {"command": []}}})
