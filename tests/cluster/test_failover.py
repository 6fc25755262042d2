"""Break the primary under load: writes come back, nothing is lost, the herd is whole again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import psycopg
import pytest

from pgherd.proof.herd import LocalHerd
from pgherd.proof.processes import send
from pgherd.proof.trials import Fault, Report, attempt, conclude
from pgherd.proof.writers import Writers

OUTAGE_S_MAX = 60.0
"""Loose: the figures are the bench's, a busy test machine only must not hang.

More than `failover.minimum_interval`: where load made a node look silent in the test before, its
death now is waited out.
"""

UNDISTURBED_S = 5.0
"""Loose as well; a machine that stalls stalls writes, and an agent that ends does not."""

LOCAL_ROWS = 300_000
"""About 40 MB of WAL: more than the kernel buffers between a walsender and its receiver."""

Count = Callable[..., None]
StartWriters = Callable[..., Writers]


def run(herd: LocalHerd, writers: Writers, fault: Fault) -> Report:
    report = conclude(herd, writers, [attempt(herd, writers, fault)])
    assert report.verdict.clean, str(report.verdict)
    [outage] = report.outages
    assert outage.ended
    assert outage.seconds < OUTAGE_S_MAX
    return report


@pytest.mark.parametrize("via", ["direct", "proxy"])
@pytest.mark.fault(1)
def test_postmaster_killed(
    herd: LocalHerd, start_writers: StartWriters, count: Count, via: str
) -> None:
    """The primary's postmaster dies alone; a reported death, so a new term begins at once."""
    term = herd.status()["epoch"]
    run(herd, start_writers(via=via), Fault.POSTMASTER)
    assert herd.status()["epoch"] > term
    count(failovers=1)


@pytest.mark.parametrize("via", ["direct", "proxy"])
def test_node_killed(herd: LocalHerd, start_writers: StartWriters, count: Count, via: str) -> None:
    """All of the primary's processes die at once; another node leads; the lost one comes back."""
    report = run(herd, start_writers(via=via), Fault.NODE)
    [trial] = report.trials
    assert trial.after != trial.before
    count(failovers=1)


@pytest.mark.parametrize("via", ["direct", "proxy"])
def test_switchover(herd: LocalHerd, start_writers: StartWriters, count: Count, via: str) -> None:
    """A planned change loses nothing, and the old primary follows with its data directory."""
    before = herd.wait_primary()
    inode = herd.places[before].data.stat().st_ino
    report = run(herd, start_writers(via=via), Fault.SWITCHOVER)
    assert report.trials[0].after != before
    assert herd.places[before].data.stat().st_ino == inode
    count(switchovers=1)


def test_switchover_to_a_named_node(herd: LocalHerd) -> None:
    """The candidate that was asked for leads afterwards."""
    primary = herd.wait_primary()
    wanted = next(name for name in herd.nodes if name != primary)
    herd.switchover(to=wanted)
    assert herd.wait_primary(other_than=primary) == wanted


@pytest.mark.fault(3)
def test_agent_killed(herd: LocalHerd, start_writers: StartWriters) -> None:
    """PostgreSQL and the writers do not notice; the new agent adopts the running server."""
    term = herd.status()["epoch"]
    report = run(herd, start_writers(), Fault.AGENT)
    assert report.outages[0].seconds < UNDISTURBED_S
    assert report.outages[0].indeterminate == 0
    assert herd.status()["epoch"] == term


def test_proxy_killed(herd: LocalHerd) -> None:
    """A proxy comes back by itself and leads to the primary again."""
    name = herd.nodes[0]
    killed = herd.kill_proxy(name)
    herd.wait_for(
        lambda: herd.part_pid(name, "proxy") not in (None, killed), "new proxy", deadline_s=10
    )
    port = herd.places[name].ports.proxy_primary
    dsn = f"{herd.dsn_node(name)} port={port}"

    def answers() -> bool:
        with psycopg.connect(dsn) as connection:
            return connection.execute("SELECT NOT pg_is_in_recovery()").fetchall() == [(True,)]

    herd.wait_for(answers, "primary behind the proxy", deadline_s=10)


@pytest.mark.fault(68)
def test_old_primary_rejoins_by_rewind(
    herd: LocalHerd, start_writers: StartWriters, count: Count
) -> None:
    """A primary that died ahead of everybody is rewound, not copied, and what was ahead is gone.

    The replicas' receivers are stopped while the primary writes more than the kernel buffers, so
    its log ends where no other log does.
    """
    old = herd.wait_primary()
    inode = herd.places[old].data.stat().st_ino
    writers = start_writers()
    herd.query(old, "CREATE TABLE IF NOT EXISTS ahead (n int, filler text)")
    herd.query(old, "TRUNCATE ahead")
    receivers = _receivers(herd, old)
    assert len(receivers) == 2
    writers.mark("primary killed ahead of all")
    send(receivers, signal.SIGSTOP)
    try:
        herd.query(
            old,
            f"SET synchronous_commit = local; INSERT INTO ahead SELECT n, repeat('x', 100)"
            f" FROM generate_series(1, {LOCAL_ROWS}) AS n",
            timeout_ms=20_000,
        )
        herd.kill_node(old)
    finally:
        send(receivers, signal.SIGCONT)
    new = herd.wait_primary(other_than=old)
    herd.restart_node(old)
    herd.wait_stable()
    time.sleep(0.5)
    report = conclude(herd, writers, [])
    assert report.verdict.clean, str(report.verdict)
    assert herd.places[old].data.stat().st_ino == inode, "it was rebuilt, not rewound"
    for name in (old, new):
        assert herd.query(name, "SELECT count(*) FROM ahead") == [(0,)]
    count(failovers=1, rewinds=1)


def _receivers(herd: LocalHerd, primary: str) -> list[int]:
    pids = []
    for name in herd.nodes:
        if name != primary:
            [[pid]] = herd.query(name, "SELECT pid FROM pg_stat_wal_receiver")
            pids.append(int(str(pid)))
    return pids
