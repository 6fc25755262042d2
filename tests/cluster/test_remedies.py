"""A replica in trouble says why and is helped, and copies come from where they are wanted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_upkeep import done, ended, node, shown

from pgherd.proof.herd import LocalHerd
from pgherd.proof.layout import read_settings

RECEIVER_SQL = "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_wal_receiver"
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
def test_a_replica_in_trouble_is_told_helped_and_copied(herd: LocalHerd) -> None:
    """Its password is spoilt: the cause is shown, the re-point mends it, and the book tells it."""
    first = herd.wait_primary()
    other, third = (name for name in herd.nodes if name != first)
    passfile = herd.places[other].data.parent / "pgpass"
    good = passfile.read_text(encoding="utf-8")
    spoilt = [f"{line.rpartition(':')[0]}:spoilt\n" for line in good.splitlines()]
    passfile.write_text("".join(spoilt), encoding="utf-8")
    herd.query(other, RECEIVER_SQL)
    stuck = wait_state(herd, other, "stuck")
    herd.wait_for(
        lambda: "password authentication failed" in node(herd, other)["state_reason"],
        "the cause in its log",
        deadline_s=30,
    )
    assert not stuck["is_healthy"]
    assert stuck["lag_bytes"] is not None
    assert f"{other} is stuck" in shown(herd, "status")
    helped = wait_state(herd, other, "streaming")
    assert [(one["step"], one["state"]) for one in helped["remedies"]][-1] == ("re-point", "done")
    assert passfile.read_text(encoding="utf-8") == good
    herd.kill_agent(other)
    herd.wait_stable(60)
    assert node(herd, other)["remedies"] == helped["remedies"], "it survives its agent"

    # Who is tagged is copied, no faster than was asked for, and both show it while it lasts.
    herd.reload_node(other, {"node": {"tags": {"clonefrom": True}}})
    herd.wait_for(lambda: node(herd, other)["tags"]["clonefrom"], "the tag", deadline_s=30)
    herd.reload_node(third, {"postgresql": {"clone": {"max_rate": "8MB"}}})
    asked = herd.ask(f"/nodes/{third}/reinitialize", method="POST", body={}, timeout_s=15.0)
    seen: dict[str, Any] = {}

    def under_way() -> bool:
        found = herd.ask("/progress")["progress"]
        seen.update(*(one for one in found if one["node"] == third and one["percent"]))
        return bool(seen)

    herd.wait_for(under_way, "progress of the copy", deadline_s=60)
    assert (seen["phase"], seen["source"]) == ("copy", other)
    assert 0 < seen["done_bytes"] <= seen["total_bytes"]
    assert herd.query(other, CLONES_SQL) != [(0,)]
    assert wait_state(herd, third, "rebuilding")["state_reason"]
    assert "copy from" in shown(herd, "progress")
    assert ended(herd, asked)["state"] == "done"
    herd.wait_stable(60)

    # By the operator's command, and from the primary by name.
    command = program(herd, BY_COMMAND)
    herd.reload_node(third, {"postgresql": {"clone": {"command": [str(command)]}}})
    done(herd, f"/nodes/{third}/reinitialize")
    assert (herd.places[third].data / "made-by-command").read_text().strip() == other
    herd.wait_stable(60)
    done(herd, f"/nodes/{third}/reinitialize", {"from_leader": True})
    assert node(herd, third)["remedies"][-1]["source"] == first
    assert not (herd.places[third].data / "made-by-command").exists(), "an operator named it"
    book = json.loads((herd.places[third].directory / "raft" / "remedies.json").read_text())
    assert [one["ending"] for one in book["remedies"]][-3:] == ["done"] * 3
    herd.reload_node(other, {"node": {"tags": {"clonefrom": False}}})
    herd.reload_node(third, {"postgresql": {"clone": {"command": [], "max_rate": "0B"}}})
    herd.wait_stable(60)
