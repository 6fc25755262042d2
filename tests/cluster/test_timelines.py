"""A member that comes back on a timeline that is not the cluster's, and what its way back is.

One that somebody promoted (a newer timeline, or one of the same number) is in `test_byhand`.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgherd.proof.herd import LocalHerd
from pgherd.proof.trials import judge
from pgherd.proof.writers import Writers, create_table

TIMELINE = """SELECT coalesce((SELECT received_tli FROM pg_stat_wal_receiver),
    (SELECT timeline_id FROM pg_control_checkpoint()))"""
DEATHS = ("before.rewind", "rewind.marked", "rewind.rewound")
"""Where the agent of a diverged primary dies: it rewinds all the same, or is copied anew."""


def timeline(herd: LocalHerd, name: str) -> int:
    [(found,)] = herd.query(name, TIMELINE)
    return int(str(found))


def remedies(herd: LocalHerd, name: str) -> list[tuple[str, str]]:
    """What was done about a node, and how it ended."""
    return [(one["step"], one["state"]) for one in herd.ask(f"/nodes/{name}")["remedies"]]


def diverge(herd: LocalHerd) -> str:
    """The primary writes what nobody gets, and is gone: its walsenders are stopped before."""
    old = herd.wait_primary()
    herd.query(old, "CHECKPOINT")
    senders = [int(str(pid)) for (pid,) in herd.query(old, "SELECT pid FROM pg_stat_replication")]
    assert len(senders) == 2
    for pid in senders:
        os.kill(pid, signal.SIGSTOP)
    with psycopg.connect(herd.dsn_node(old), autocommit=True) as connection:
        connection.execute("SET synchronous_commit = local")
        connection.execute("INSERT INTO alone SELECT generate_series(1, 20000)")
    herd.kill_node(old)
    herd.silent.add(old)
    herd.wait_primary(other_than=old, deadline_s=60)
    return old


def come_back(herd: LocalHerd, name: str) -> None:
    herd.restart_node(name)
    herd.silent.discard(name)
    herd.wait_stable(90)
    lead = herd.wait_primary()
    herd.wait_for(
        lambda: timeline(herd, lead) == timeline(herd, name), "one timeline", deadline_s=30
    )
    assert herd.query(name, "SELECT count(*) FROM alone") == [(0,)]


@pytest.mark.full
@pytest.mark.fault(67)
@pytest.mark.parametrize("stable", ["wheel-18", "debian-15"], indirect=True)
def test_whoever_comes_back_ends_on_the_clusters_timeline(
    stable: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the fork: it follows. Beyond it: rewound, whatever step its agent dies at, or copied.

    No row that nobody else had is left anywhere, and none that was acknowledged is missing.
    """
    order = tmp_path / "failpoint"
    monkeypatch.setenv("PGHERD_FAILPOINT", str(order))
    with LocalHerd(3, postgres_bin=stable.postgres_bin) as herd:
        herd.start()
        herd.wait_stable(90)
        create_table(herd.dsn_direct())
        herd.query(herd.wait_primary(), "CREATE TABLE alone (i int)")
        with Writers(herd.dsn_direct(), count=2) as writers:
            writers.start()
            first = herd.wait_primary()
            behind, other = (name for name in herd.nodes if name != first)
            inode, was = herd.places[behind].data.stat().st_ino, timeline(herd, behind)
            done_before = remedies(herd, behind)
            herd.kill_node(behind)
            herd.silent.add(behind)
            herd.switchover(other)
            herd.wait_primary(other_than=first)
            come_back(herd, behind)
            assert herd.places[behind].data.stat().st_ino == inode
            assert remedies(herd, behind) == done_before
            assert timeline(herd, behind) > was

            diverged = diverge(herd)
            come_back(herd, diverged)
            assert remedies(herd, diverged)[-1:] == [("rewind", "done")]

            for place in DEATHS:
                writers.mark(f"the agent dies at {place}")
                diverged = diverge(herd)
                order.write_text(f"{place}=panic")
                come_back(herd, diverged)
                assert not order.exists(), f"nobody died at {place}"
                step = "rewind" if place == "before.rewind" else "copy"
                assert remedies(herd, diverged)[-1:] == [(step, "done")], place
            history = writers.stop()
        verdict = judge(herd, history)
        assert verdict.clean, str(verdict)
