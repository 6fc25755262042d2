"""Lose replicas, data, quorum, everything: writes stop only when they must, none is lost."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

import pytest
from checkups import until_red

from pgherd.proof.client import NoAnswer
from pgherd.proof.herd import LocalHerd
from pgherd.proof.trials import WRITES_BACK_S, conclude
from pgherd.proof.writers import Writers

Count = Callable[..., None]
StartWriters = Callable[..., Writers]


def replicas(herd: LocalHerd) -> list[str]:
    primary = herd.wait_primary()
    return [name for name in herd.nodes if name != primary]


def wait_writes(herd: LocalHerd, writers: Writers, *, deadline_s: float = 30.0) -> None:
    herd.wait_for(lambda: writers.idle_s() < WRITES_BACK_S, "write", deadline_s=deadline_s)


def finish(herd: LocalHerd, writers: Writers) -> None:
    """Whole again, some more writes, and every row accounted for on every node."""
    herd.wait_stable(90)
    wait_writes(herd, writers)
    time.sleep(0.5)
    report = conclude(herd, writers, [])
    assert report.verdict.clean, str(report.verdict)


def test_a_lost_replica_stops_nothing(herd: LocalHerd, start_writers: StartWriters) -> None:
    """One of two synchronous replicas dies: the other one acknowledges."""
    lost = replicas(herd)[0]
    writers = start_writers()
    writers.mark("replica killed")
    herd.kill_node(lost)
    time.sleep(4)
    wait_writes(herd, writers, deadline_s=10)
    herd.restart_node(lost)
    finish(herd, writers)


def test_a_replica_without_data_is_rebuilt(
    herd: LocalHerd, start_writers: StartWriters, count: Count
) -> None:
    """A data directory that is gone is made anew from the primary, under load."""
    lost = replicas(herd)[0]
    writers = start_writers()
    herd.kill_node(lost)
    shutil.rmtree(herd.places[lost].data)
    herd.restart_node(lost)
    finish(herd, writers)
    count(rebuilds=1)


@pytest.mark.fault(54, 70)
def test_quorum_lost_and_regained(herd: LocalHerd, start_writers: StartWriters) -> None:
    """With both replicas gone no write is acknowledged; with one back, writes go on."""
    first, second = replicas(herd)
    writers = start_writers()
    time.sleep(1)
    writers.mark("quorum lost")
    herd.kill_node(first)
    herd.kill_node(second)
    time.sleep(1)
    before = writers.acknowledged()
    time.sleep(4)
    assert writers.acknowledged() == before, "acknowledged on one node alone"

    def says_so() -> bool:
        return herd.status().get("has_quorum") is False

    herd.wait_for(says_so, "word of the lost quorum", deadline_s=10)
    [left] = set(herd.nodes) - {first, second}
    until_red(herd, left, ("herd.quorum", ""), ("herd.primary", ""))
    herd.restart_node(first)
    wait_writes(herd, writers, deadline_s=60)
    herd.restart_node(second)
    finish(herd, writers)


def test_all_nodes_killed_and_restarted(
    herd: LocalHerd, start_writers: StartWriters, count: Count
) -> None:
    """A power cut of everything: the herd comes back by itself with all acknowledged rows."""
    writers = start_writers()
    time.sleep(1)
    writers.mark("all nodes killed")
    for name in herd.nodes:
        herd.kill_node(name)
    assert _nobody_answers(herd)
    herd.start()
    finish(herd, writers)
    count(failovers=1)


def _nobody_answers(herd: LocalHerd) -> bool:
    try:
        herd.status()
    except NoAnswer:
        return True
    return False
