"""The primary and the only other copy of some commits are gone: a person says so; it goes on."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from tending import typed

from pgherd.model.ids import parse_lsn
from pgherd.proof.herd import LocalHerd

pytestmark = pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)


def failover(herd: LocalHerd, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`pgherd failover` as a person types it on a node."""
    return typed(herd, name, "failover", *words)


def told_of(herd: LocalHerd, name: str, by: str) -> int:
    """How far a node's WAL is by what another one has heard of it."""
    [state] = [one for one in herd.ask("/nodes", name=by)["nodes"] if one["name"] == name]
    return parse_lsn(state["lsn"])


def test_what_two_lost_nodes_held_is_given_up_by_name(stable: Any) -> None:
    """Planned, refused where too much is lost, then done; the loss stands in the history.

    n3 was cut off while rows were acknowledged by the other two. Two witnesses keep the quorum when
    those are killed, so the election waits: for ever, but for a person. The rows are gone after
    that, said with a number, and the old primary that comes back with them is made to follow.
    """
    with LocalHerd(5, witnesses=2, postgres_bin=stable.postgres_bin) as herd:
        herd.start()
        herd.wait_stable(90)
        primary, asked = herd.wait_primary(), "n4"  # a witness, which hears what may be lost
        left, other = sorted(set(herd.data) - {primary}, reverse=True)
        herd.query(primary, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
        herd.pause_node(left)
        herd.wait_for(
            lambda: herd.status()["synchronous"]["voters"] == [other], "set of two", deadline_s=30
        )
        # More than the kernel keeps for a process that does not read.
        herd.query(primary, "INSERT INTO kept SELECT generate_series(2, 300000)", timeout_ms=60_000)
        [(written,)] = herd.query(primary, "SELECT pg_current_wal_flush_lsn()::text")
        herd.wait_for(
            lambda: told_of(herd, primary, asked) >= parse_lsn(written),
            "word of it",
            deadline_s=10,
        )
        herd.kill_node(primary)
        herd.kill_node(other)
        herd.silent.update((primary, other))
        herd.resume_node(left)
        waiting = f"--lost {min(primary, other)} --lost {max(primary, other)}"
        told = herd.wait_for(
            lambda: [p for p in herd.status()["problems"] if waiting in p],
            "word of what the election waits for",
            deadline_s=30,
        )
        assert f"start {min(primary, other)}" in told[0]
        lost = ["--force", "--lost", primary, "--lost", other]
        dear = failover(herd, asked, *lost, "--accept-data-loss", "1B", "--yes")
        assert (dear.returncode, "1 bytes were accepted" in dear.stderr) == (3, True), dear.stderr
        planned = failover(herd, asked, *lost)
        assert planned.returncode == 2, planned.stderr
        assert "LOST: what only" in planned.stderr
        assert herd.status()["phase"] == "electing", "the first step changes nothing"
        done = failover(herd, asked, *lost, "--accept-data-loss", "256MB", "--yes")
        assert done.returncode == 0, done.stderr
        assert herd.wait_primary() == left
        assert herd.query(left, "SELECT count(*) FROM kept") == [(1,)]
        herd.query(left, "INSERT INTO kept VALUES (2000)")
        history = herd.ask("/history")
        assert history["reigns"][-1]["gave_up"] == sorted((primary, other))
        [note] = [one for one in history["notes"] if one["kind"] == "data.loss-accepted"]
        assert "gave up n" in note["text"]
        assert " bytes by the last that was heard" in note["text"]
        assert ", 0 bytes" not in note["text"]
        herd.restart_node(primary)
        herd.silent.discard(primary)

        def follows() -> bool:
            [state] = [one for one in herd.node_states() if one["name"] == primary]
            return bool(state["is_sync"] and state["state"] == "streaming")

        herd.wait_for(follows, f"{primary} as a replica in the set", deadline_s=60)
        assert herd.query(primary, "SELECT n FROM kept ORDER BY n") == [(1,), (2000,)]
