"""Attack real herds where a review expected them to fail: nothing is lost, and they come back."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable

import pytest

from pgherd.proof import processes
from pgherd.proof.asking import HerdError
from pgherd.proof.client import NoAnswer
from pgherd.proof.herd import LocalHerd
from pgherd.proof.trials import conclude
from pgherd.proof.writers import Writers

WRITES_BACK_S = 20.0
StartWriters = Callable[..., Writers]


def survive(herd: LocalHerd, writers: Writers) -> None:
    """Writes come back, the herd is whole again, and every acknowledged row is everywhere."""
    herd.wait_for(lambda: writers.idle_s() < 0.5, "write", deadline_s=WRITES_BACK_S)
    herd.wait_stable()
    time.sleep(0.5)
    verdict = conclude(herd, writers, []).verdict
    assert verdict.clean, str(verdict)


def stopped(pid: int, seconds: float) -> None:
    """Hold one process for a while; it may be dead by then."""
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    processes.send([pid], signal.SIGCONT)


def test_data_directory_of_a_replica_moved_away(
    herd: LocalHerd, start_writers: StartWriters
) -> None:
    """The server of the directory that was there ends, or it would keep port and socket."""
    primary = herd.wait_primary()
    lost = next(name for name in herd.nodes if name != primary)
    writers = start_writers()
    old, data = herd.postmaster_pid(lost), herd.places[lost].data
    aside = data.with_name("moved-away")
    data.rename(aside)
    herd.wait_for(
        lambda: (data / "postmaster.pid").exists() and herd.postmaster_pid(lost) != old,
        "new server",
        deadline_s=WRITES_BACK_S,
    )
    assert not processes.is_alive(old)
    shutil.rmtree(aside)
    survive(herd, writers)


@pytest.mark.fault(4)
def test_agent_of_the_primary_stopped_and_woken(
    herd: LocalHerd, start_writers: StartWriters
) -> None:
    """Its PostgreSQL cannot acknowledge any more when another leads; the woken agent gives in."""
    primary = herd.wait_primary()
    writers = start_writers()
    time.sleep(1)
    agent = herd.part_pid(primary, "agent")
    assert agent is not None
    stopped(agent, 5)
    assert herd.wait_primary(other_than=primary) != primary
    survive(herd, writers)


def test_candidate_killed_during_its_switchover(
    herd: LocalHerd, start_writers: StartWriters
) -> None:
    """The switchover is undone at once, not after its time limit."""
    primary = herd.wait_primary()
    candidate = next(name for name in herd.nodes if name != primary)
    writers = start_writers()
    time.sleep(1)
    asking = threading.Thread(target=ask_for, args=(herd, candidate))
    asking.start()
    herd.wait_for(
        lambda: herd.status()["phase"] != "stable" or herd.primary() != primary,
        "begun switchover",
        deadline_s=WRITES_BACK_S,
    )
    herd.kill_postmaster(candidate)
    asking.join()
    survive(herd, writers)


def ask_for(herd: LocalHerd, candidate: str) -> None:
    try:
        herd.switchover(to=candidate)
    except (HerdError, NoAnswer):
        pass  # undone, as it should be, or asked of a node that answers too late


def test_everything_killed_at_once(herd: LocalHerd, start_writers: StartWriters) -> None:
    """A power cut on all nodes: what was acknowledged is there when they are back."""
    writers = start_writers()
    time.sleep(1)
    for name in herd.nodes:
        herd.kill_node(name)
    herd.start()
    survive(herd, writers)


@pytest.mark.fault(54)
def test_agent_restarted_without_a_quorum(herd: LocalHerd, start_writers: StartWriters) -> None:
    """It knows an old ledger only, so it changes nothing: same set, and writes go on.

    It ended by a fatal signal, which leaves its stack in the log.
    """
    primary = herd.wait_primary()
    writers = start_writers()
    time.sleep(1)
    names = herd.query(primary, "SHOW synchronous_standby_names")
    others = [herd.part_pid(name, "agent") for name in herd.nodes if name != primary]
    pids = [pid for pid in others if pid is not None]
    processes.send(pids, signal.SIGSTOP)
    try:
        aborted = herd.part_pid(primary, "agent")
        assert aborted is not None
        processes.send([aborted], signal.SIGABRT)
        herd.wait_for(
            lambda: herd.part_pid(primary, "agent") not in (None, aborted),
            "new agent",
            deadline_s=WRITES_BACK_S,
        )
        assert "Fatal Python error: Aborted" in herd.places[primary].log.read_text(), "no stack"
        time.sleep(3)
        assert herd.query(primary, "SHOW synchronous_standby_names") == names
        herd.wait_for(lambda: writers.idle_s() < 0.5, "write", deadline_s=10)
    finally:
        processes.send(pids, signal.SIGCONT)
    survive(herd, writers)
