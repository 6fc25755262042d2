"""Fill the disk under a node's Raft directory, make it read-only, damage it, set it back, lose it.

Real file systems: each node's Raft directory is an ext4 image of its own, mounted over a loop
device (a tmpfs of limited size where there is none). Needs root. One PostgreSQL version is enough:
what is broken here is below pgherd, not below PostgreSQL.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filesystems import mount_tmpfs, run

from pgherd.proof.asking import HerdError
from pgherd.proof.client import ask
from pgherd.proof.herd import LocalHerd
from pgherd.proof.layout import Place
from pgherd.proof.ports import HOST
from pgherd.proof.trials import WRITES_BACK_S, conclude
from pgherd.proof.writers import Writers, create_table

Count = Callable[..., None]
DISK_MB = 24
BELOW_MB = 4
BALLAST = "ballast"
CANNOT_WRITE = "the Raft store cannot write"
ENDED = "agent ended with 1"


class Disk:
    """A small file system of its own, at the place of one node's Raft directory."""

    def __init__(self, place: Place) -> None:
        self.path = place.directory / "raft"
        self._below = place.directory / "raft.below"
        self._image = self._below / "image"
        self.path.mkdir(mode=0o700)
        self._below.mkdir()
        mount_tmpfs(self._below, DISK_MB + BELOW_MB)
        self.has_device = self._mount_image()
        if not self.has_device:
            mount_tmpfs(self.path, DISK_MB)

    def _mount_image(self) -> bool:
        with self._image.open("wb") as file:
            file.truncate(DISK_MB << 20)
        try:
            run("mkfs.ext4", "-q", "-m", "0", str(self._image))
            self._mount_loop()
        except (OSError, subprocess.CalledProcessError):
            return False
        shutil.rmtree(self.path / "lost+found")
        return True

    def _mount_loop(self) -> None:
        run("mount", "-o", "loop", str(self._image), str(self.path))

    def fail(self) -> None:
        """Take away what the device writes to: from now on new blocks end in I/O errors."""
        ballast = (self._below / BALLAST).open("wb", buffering=0)
        with ballast as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 12))

    def repair(self) -> None:
        """A good device with what could be saved; nothing may be open on it."""
        (self._below / BALLAST).unlink()
        run("umount", str(self.path))
        subprocess.run(("e2fsck", "-fy", str(self._image)), check=False, capture_output=True)
        self._mount_loop()

    def fill(self) -> None:
        """Leave no byte: with small steps at the end, since a few KiB are many log entries."""
        with (self.path / BALLAST).open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
            with contextlib.suppress(OSError):
                os.fsync(file.fileno())

    def empty(self) -> None:
        (self.path / BALLAST).unlink()

    def set_writable(self, writable: bool) -> bool:
        """Remount; False when files that are open for writing forbid it."""
        how = "remount,rw" if writable else "remount,ro"
        command = ["mount", "-o", how, str(self.path)]
        return not subprocess.run(command, check=False, capture_output=True).returncode

    def close(self) -> None:
        for place in (self.path, self._below):
            subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


class DiskHerd(LocalHerd):
    """A herd whose nodes have small disks for their Raft directories."""

    disks: dict[str, Disk]
    commands = 0

    def mark_of(self, name: str) -> int:
        """Where a node's log ends now."""
        return self.places[name].log.stat().st_size

    def said(self, name: str, text: str, *, since: int = 0) -> int:
        """How often a node's log says something after a mark."""
        return self.places[name].log.read_bytes()[since:].count(text.encode())

    def command(self, besides: str) -> None:
        """Put a harmless command through consensus: another node gets another priority."""
        via = next(name for name in self.nodes if name != besides)
        self.commands += 1
        self.reload_node(via, {"node": {"tags": {"failover_priority": 90 + self.commands % 20}}})

    def raft_leader(self, *, other_than: str = "") -> str:
        def found() -> str | None:
            leader = self.status().get("raft_leader")
            return str(leader) if leader and leader != other_than else None

        leader = self.wait_for(found, f"Raft leader other than {other_than}", deadline_s=20)
        assert leader is not None
        return leader

    def agents_gone(self, name: str, *, since: int, times: int) -> None:
        """Commands go on until this node's agent has ended so many times for want of its disk."""

        def gone() -> bool:
            self.command(name)
            time.sleep(0.2)  # each is an entry of its own
            return self.said(name, ENDED, since=since) >= times

        self.wait_for(gone, f"end of the agent of {name}", deadline_s=30)

    def end_daemon(self, name: str) -> None:
        """SIGKILL the supervisor: the agent follows it, PostgreSQL goes on."""
        self._running.pop(name).kill()
        self.wait_for(lambda: self.part_pid(name, "agent") is None, "end of agent", deadline_s=20)


@pytest.fixture(scope="module")
def disk_herd() -> Iterator[DiskHerd]:
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting small file systems needs root")
    herd = DiskHerd(3)
    herd.disks = {}
    try:
        for name, place in herd.places.items():
            herd.disks[name] = Disk(place)
    except (OSError, subprocess.CalledProcessError) as error:
        for disk in herd.disks.values():
            disk.close()
        herd.remove()
        pytest.skip(f"no file system can be mounted here: {error}")
    try:
        herd.start()
        herd.wait_stable(60)
        yield herd
    finally:
        herd.stop(graceful=False)
        for disk in herd.disks.values():
            disk.close()
        herd.remove()


@pytest.fixture
def writers(disk_herd: DiskHerd) -> Iterator[Writers]:
    """Writers at every server, on an empty table, while all is well."""
    disk_herd.wait_stable(60)
    create_table(disk_herd.dsn_direct())
    with Writers(disk_herd.dsn_direct()) as started:
        started.start()
        yield started


def follower_of(herd: DiskHerd) -> str:
    """A node that leads neither consensus nor PostgreSQL."""
    leaders = {herd.raft_leader(), herd.primary()}
    return next(name for name in herd.nodes if name not in leaders)


def writes_go_on(herd: DiskHerd, writers: Writers) -> None:
    """While the disk is as it is; a moment's pause of the machine is no end of them."""
    herd.wait_for(lambda: writers.idle_s() < WRITES_BACK_S, "write by the others", deadline_s=10)


def whole_again(herd: DiskHerd, writers: Writers, name: str) -> None:
    """By itself: the node takes part, everything streams, every row is accounted for."""
    herd.silent.clear()
    herd.wait_for(lambda: herd.ask("/health", name=name), f"agent of {name}", deadline_s=30)
    herd.wait_stable(60)
    herd.wait_for(lambda: writers.idle_s() < WRITES_BACK_S, "write", deadline_s=20)
    report = conclude(herd, writers, [])
    assert report.verdict.clean, str(report.verdict)


@pytest.mark.fault(42)
def test_a_full_disk_takes_a_follower_out_and_room_brings_it_back(
    disk_herd: DiskHerd, writers: Writers, count: Count
) -> None:
    """It says why, ends with 1, is tried again ever more rarely; PostgreSQL and writes go on."""
    herd, name = disk_herd, follower_of(disk_herd)
    postmaster, since = herd.postmaster_pid(name), herd.mark_of(name)
    herd.silent.add(name)
    writers.mark("disk of a follower full")
    herd.disks[name].fill()
    herd.agents_gone(name, since=since, times=3)
    assert herd.said(name, CANNOT_WRITE, since=since) >= 3
    assert herd.said(name, "free some space", since=since)
    assert herd.said(name, "starts again in 2 s", since=since) == 1, "the pauses grow"
    assert herd.postmaster_pid(name) == postmaster
    writes_go_on(herd, writers)
    herd.command(name)
    herd.disks[name].empty()
    whole_again(herd, writers, name)
    count(disks_full=1)


@pytest.mark.fault(42)
def test_a_full_disk_of_the_leader_lets_another_lead(
    disk_herd: DiskHerd, writers: Writers, count: Count
) -> None:
    """The Raft leader's disk: consensus moves on, writes come back, its PostgreSQL runs on."""
    herd, name = disk_herd, disk_herd.raft_leader()
    postmaster, since = herd.postmaster_pid(name), herd.mark_of(name)
    writers.mark("disk of the leader full")
    herd.disks[name].fill()
    herd.agents_gone(name, since=since, times=2)
    herd.silent.add(name)
    assert herd.raft_leader(other_than=name) != name
    herd.wait_for(lambda: writers.idle_s() < WRITES_BACK_S, "write", deadline_s=30)
    herd.command(name)
    assert herd.postmaster_pid(name) == postmaster
    herd.disks[name].empty()
    whole_again(herd, writers, name)
    count(disks_full=1)


@pytest.mark.fault(43)
def test_a_read_only_disk_is_said_and_survived(disk_herd: DiskHerd, writers: Writers) -> None:
    """A Raft directory that cannot be written: ends with 1 and the reason, returns by itself."""
    herd, name = disk_herd, follower_of(disk_herd)
    postmaster, since = herd.postmaster_pid(name), herd.mark_of(name)
    herd.silent.add(name)
    writers.mark("disk of a follower read-only")

    def remounted() -> bool:  # possible only while no agent has its store open
        with contextlib.suppress(HerdError):
            herd.kill_agent(name)
        return any(herd.disks[name].set_writable(False) for _ in range(10))

    herd.wait_for(remounted, "read-only disk", deadline_s=20)
    try:
        herd.wait_for(
            lambda: herd.said(name, ENDED, since=since),
            "end of the agent for want of a disk",
            deadline_s=25,
        )
        assert herd.said(name, "Read-only file system", since=since)
        assert herd.postmaster_pid(name) == postmaster
        writes_go_on(herd, writers)
    finally:
        assert herd.disks[name].set_writable(True)
    whole_again(herd, writers, name)


@pytest.mark.fault(43)
def test_a_failing_device_is_said_and_survived(disk_herd: DiskHerd, writers: Writers) -> None:
    """EIO at an fsync: the reason, the end, never a second try; a repaired disk is enough."""
    herd, name = disk_herd, follower_of(disk_herd)
    disk = herd.disks[name]
    if not disk.has_device:
        pytest.skip("there are no loop devices here")
    postmaster, since = herd.postmaster_pid(name), herd.mark_of(name)
    herd.silent.add(name)
    writers.mark("device of a follower fails")
    disk.fail()
    herd.agents_gone(name, since=since, times=2)
    assert herd.said(name, "I/O error", since=since)
    assert herd.said(name, "check the disk", since=since)
    assert herd.said(name, CANNOT_WRITE, since=since) >= herd.said(name, ENDED, since=since)
    assert herd.postmaster_pid(name) == postmaster
    writes_go_on(herd, writers)
    herd.end_daemon(name)
    disk.repair()
    herd.start_node(name)
    whole_again(herd, writers, name)


def refused_start(herd: DiskHerd, name: str) -> str:
    """Start a node that must refuse with 2; what its log says of it."""
    since = herd.mark_of(name)
    herd.start_node(name)
    assert herd._running[name].wait(30) == 2
    del herd._running[name]
    said = herd.places[name].log.read_bytes()[since:].decode()
    assert "agent ended with 2" in said
    assert "starts again" not in said, "nobody is told of a start that does not come"
    return said


def raft_peer(herd: DiskHerd, name: str) -> dict[str, Any]:
    """A node's place in consensus, as another node tells it."""
    via = herd.places[next(one for one in herd.nodes if one != name)]
    found = ask(HOST, via.ports.api, "/raft/peers", token=herd.secrets.token)
    return next(peer for peer in found["peers"] if peer["node"] == name)


def returned(herd: DiskHerd, name: str, *, old_id: int) -> None:
    """By itself: a new Raft id, then a vote, and its copy synchronous again."""

    def votes() -> bool:
        peer = raft_peer(herd, name)
        return bool(peer["raft_id"] > old_id and peer["suffrage"] == "voter")

    herd.wait_for(votes, f"vote of {name} under a new Raft id", deadline_s=40)
    herd.wait_for(
        lambda: name in herd.status()["synchronous"]["voters"],
        f"{name} in the sync set",
        deadline_s=40,
    )


def damage(store: Path) -> bytes:
    """Flip every bit but those of the first page; what is there now."""
    good = store.read_bytes()
    store.write_bytes(good[:4096] + bytes(255 - byte for byte in good[4096:]))
    return store.read_bytes()


@pytest.mark.fault(48)
def test_a_damaged_store_is_replaced_and_its_node_votes_again(
    disk_herd: DiskHerd, writers: Writers
) -> None:
    """It says amnesia, is re-admitted as a learner and promoted; what is broken is kept.

    Its PostgreSQL is never stopped: its files say that it streams from the present primary.
    """
    herd, name = disk_herd, follower_of(disk_herd)
    postmaster, store = herd.postmaster_pid(name), herd.disks[name].path / "store.sqlite"
    old_id = raft_peer(herd, name)["raft_id"]
    herd.silent.add(name)
    herd.end_daemon(name)
    broken, since = damage(store), herd.mark_of(name)
    herd.start_node(name)
    returned(herd, name, old_id=old_id)
    assert herd.said(name, "the Raft store is damaged", since=since)
    assert herd.said(name, "store.amnesia", since=since)
    assert herd.postmaster_pid(name) == postmaster
    assert (store.parent / "forgotten-1" / "store.sqlite").read_bytes() == broken
    writes_go_on(herd, writers)
    whole_again(herd, writers, name)


@pytest.mark.fault(52)
def test_a_store_from_an_old_copy_is_refused_and_given_up(
    disk_herd: DiskHerd, writers: Writers
) -> None:
    """All of the directory is from before: its own checks cannot know, its peers do. Exit code 2,
    the reason, the way out; and that way is gone to its end."""
    herd, name = disk_herd, follower_of(disk_herd)
    path, old = herd.disks[name].path, herd.places[name].directory / "old"
    postmaster, old_id = herd.postmaster_pid(name), raft_peer(herd, name)["raft_id"]
    herd.silent.add(name)
    herd.end_daemon(name)
    shutil.copytree(path, old)
    herd.start_node(name)
    herd.wait_for(lambda: herd.ask("/health", name=name), "agent", deadline_s=20)
    for _ in range(5):
        herd.command(name)
    time.sleep(1)  # several reports
    herd.end_daemon(name)
    replace(path, old)
    said = refused_start(herd, name)
    assert "your Raft store went back in time" in said
    assert "pgherd raft readmit" in said
    assert herd.postmaster_pid(name) == postmaster
    give_up = ("raft", "readmit", "--config", str(herd.places[name].config))
    assert pgherd(*give_up) == 3, "nothing is given up at the first word"
    assert pgherd(*give_up, "--yes-nobody-else-runs-it") == 0
    herd.start_node(name)
    returned(herd, name, old_id=old_id)
    assert herd.postmaster_pid(name) == postmaster
    whole_again(herd, writers, name)
    shutil.rmtree(old)


def pgherd(*words: str) -> int:
    """Run a command on this machine; its exit code."""
    command = [sys.executable, "-m", "pgherd.cli.main", *words]
    return subprocess.run(command, check=False, capture_output=True, timeout=30).returncode


def test_an_empty_directory_founds_nothing(disk_herd: DiskHerd, writers: Writers) -> None:
    """The disk of a founding member is new, data and all: the others know that it was a member."""
    herd, name = disk_herd, follower_of(disk_herd)
    old_id = raft_peer(herd, name)["raft_id"]
    herd.silent.add(name)
    writers.mark("disk of a follower lost")
    herd.kill_node(name)
    replace(herd.disks[name].path, None)
    shutil.rmtree(herd.places[name].data)
    herd.start_node(name)
    returned(herd, name, old_id=old_id)
    whole_again(herd, writers, name)


def replace(path: Path, source: Path | None) -> None:
    """Put the files of `source`, or none, into a directory."""
    for file in path.iterdir():
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    if source is not None:
        shutil.copytree(source, path, dirs_exist_ok=True)
