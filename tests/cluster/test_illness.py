"""Servers that are ill but not dead: hung with an open port, unable to write, dying on and on.

Each is found within what `pgherd config validate` says at default settings, give or take what a
busy machine needs; nothing acknowledged is lost.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filesystems import LoopDisk

from pgherd.config.detection import Worst, worst_case
from pgherd.config.load import load
from pgherd.proof import processes
from pgherd.proof.herd import LocalHerd
from pgherd.proof.trials import conclude
from pgherd.proof.writers import Writers, create_table

Count = Callable[..., None]
StartWriters = Callable[..., Writers]
GENEROUS_S = 10.0
"""For the failover itself and for a machine that does other things."""

WAL_MB = 400
FROZEN_S_MAX = 60
DEATHS = 4


def worst(herd: LocalHerd) -> Worst:
    return worst_case(load(herd.places[herd.nodes[0]].config, os.environ))


def failed_over(herd: LocalHerd, writers: Writers, old: str, *, within_ms: int) -> None:
    """Another node leads and writes are back, within the time to detection and some seconds."""
    began = time.monotonic()
    herd.wait_primary(other_than=old, deadline_s=within_ms / 1000 + GENEROUS_S)
    print(f"another primary after {time.monotonic() - began:.1f} s, {within_ms} ms were said")
    herd.wait_for(lambda: writers.idle_s() < 0.5, "write", deadline_s=GENEROUS_S)


@pytest.mark.fault(16)
def test_a_hung_server_with_an_open_port(
    herd: LocalHerd, start_writers: StartWriters, count: Count
) -> None:
    """Its postmaster stands still, its sessions go on: it is replaced, ended and follows."""
    old = herd.wait_primary()
    postmaster = herd.postmaster_pid(old)
    writers = start_writers()
    writers.mark("postmaster of the primary stopped")
    os.kill(postmaster, signal.SIGSTOP)
    try:
        failed_over(herd, writers, old, within_ms=worst(herd).hung_ms)
        herd.wait_for(lambda: not processes.is_alive(postmaster), "its end", deadline_s=30)
    finally:
        if processes.is_alive(postmaster):
            os.kill(postmaster, signal.SIGCONT)
    herd.wait_stable(60)
    assert "it takes no new connection" in herd.places[old].log.read_text()
    report = conclude(herd, writers, [])
    assert report.verdict.clean, str(report.verdict)
    count(failovers=1)


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Iterator[LocalHerd]:
    """A herd of its own."""
    herd = LocalHerd(request.param)
    try:
        herd.start()
        herd.wait_stable(90)
        yield herd
    finally:
        herd.stop(graceful=False)
        herd.remove()


@pytest.fixture
def wal_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopDisk]:
    """A disk for WAL that can be frozen."""
    if os.geteuid() != 0 or not shutil.which("fsfreeze"):
        pytest.skip("freezing a file system needs root and fsfreeze")
    directory = Path("/tmp") / f"pgherd-illness-{os.getpid()}"
    disk = None
    try:
        directory.mkdir(mode=0o755)
        disk = LoopDisk(directory, size_mb=WAL_MB)
        yield disk
    except (OSError, subprocess.CalledProcessError) as error:
        if disk is not None:
            raise
        pytest.skip(f"no loop device can be mounted here: {error}")
    finally:
        if disk is not None:
            disk.close()
        shutil.rmtree(directory, ignore_errors=True)


def move_wal(herd: LocalHerd, name: str, disk: LoopDisk) -> None:
    """Put a node's WAL on a disk of its own, as operators do, with the node stopped."""
    herd.terminate_node(name, within_s=30)
    wal = herd.places[name].data / "pg_wal"
    target = disk.path / "pg_wal"
    owner = wal.stat()
    shutil.copytree(wal, target)
    for each in (disk.path, target, *target.rglob("*")):
        os.chown(each, owner.st_uid, owner.st_gid)
    target.chmod(0o700)
    shutil.rmtree(wal)
    wal.symlink_to(target)
    herd.start_node(name)
    herd.wait_stable(60)


@pytest.mark.parametrize("own", [3], indirect=True)
@pytest.mark.fault(17)
def test_a_frozen_wal_disk(wal_disk: LoopDisk, own: LocalHerd, count: Count) -> None:
    """The primary answers every read and takes every connection, and no write ever ends."""
    herd = own
    old = next(name for name in herd.nodes if name != herd.primary())
    move_wal(herd, old, wal_disk)
    herd.switchover(to=old)
    herd.wait_primary(other_than=None)
    herd.wait_for(lambda: herd.primary() == old, f"lead of {old}", deadline_s=30)
    herd.wait_stable(60)
    create_table(herd.dsn_direct())
    with Writers(herd.dsn_direct()) as writers:
        writers.start()
        time.sleep(0.5)
        writers.mark("WAL disk of the primary frozen")
        wal_disk.freeze(at_most_s=FROZEN_S_MAX)
        try:
            assert herd.query(old, "SELECT 1") == [(1,)]
            failed_over(herd, writers, old, within_ms=worst(herd).writes_ms)
        finally:
            wal_disk.thaw()
        assert "no WAL became durable" in herd.places[old].log.read_text()
        herd.wait_stable(60)
        report = conclude(herd, writers, [])
    assert report.verdict.clean, str(report.verdict)
    count(failovers=1)


@pytest.mark.parametrize("own", [1], indirect=True)
def test_a_server_that_dies_each_time(own: LocalHerd) -> None:
    """Where nobody else can lead it is started again, after pauses that grow, and says so."""
    herd, [name] = own, own.nodes
    took = []
    for _ in range(DEATHS):
        herd.kill_postmaster(name)
        began = time.monotonic()
        herd.wait_for(
            lambda: herd.query(name, "SELECT NOT pg_is_in_recovery()") == [(True,)],
            "primary again",
            deadline_s=30,
        )
        took.append(time.monotonic() - began)
    print("primary again after", [f"{each:.1f} s" for each in took])
    assert took[2] > 2.0, took
    assert took[3] > 4.0, took
    log = herd.places[name].log.read_text()
    assert f"it died {DEATHS} times in a row, each soon after its start" in log
    assert log.count("server.died-again") == DEATHS - 1
