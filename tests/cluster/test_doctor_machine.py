"""What a check-up says of machines in trouble: kernels set badly, clocks, disks, killed processes.

A kernel is not set for a test: its files are covered, in a mount namespace of its own, by ones that
say what a bad one says, and the command line looks there as it would anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkups import red, until_red
from faraway import FarAway
from filesystems import LoopDisk, mount_tmpfs, run

from pgherd.model.checkup import Finding, NodeFacts
from pgherd.model.facts import Kind
from pgherd.model.ids import NodeId, RaftId
from pgherd.model.observation import Observation, ServerSeen
from pgherd.model.promises import Promises
from pgherd.observe import disk as growing
from pgherd.observe.disk import FreeSpace
from pgherd.observe.doctor import machine, places
from pgherd.plan.doctor import checks
from pgherd.proof.covering import could_not, covered
from pgherd.proof.herd import LocalHerd
from pgherd.telemetry.boottime import now_ms

WAIT_S = 90.0
HOUR_S = 3600
HERE = Path(__file__).parent


# --- the kernel ----------------------------------------------------------------------------------

BAD_KERNEL = {
    "/proc/loadavg": "950.12 948.01 907.50 3/812 4242\n",
    "/proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 200000 kB\nSwapTotal: 1000 kB\n"
    "SwapFree: 100 kB\n",
    "/proc/sys/vm/overcommit_memory": "0\n",
    "/proc/sys/vm/swappiness": "60\n",
    "/proc/sys/vm/zone_reclaim_mode": "1\n",
    "/proc/sys/vm/dirty_bytes": "8000000000\n",
    "/proc/pressure/io": "full avg10=50.00 avg60=41.50 avg300=9.00 total=1\n",
    "/proc/pressure/memory": "full avg10=1.00 avg60=22.00 avg300=9.00 total=1\n",
    f"/sys/{machine.CLOCK_SOURCE}": "hpet\n",
    "/sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never\n",
}
OF_KERNEL = (
    *("cpu.load", "memory.available", "memory.swap", "memory.overcommit", "memory.swappiness"),
    *("memory.zone_reclaim", "memory.dirty", "pressure.io", "pressure.memory", "clock.source"),
    *("memory.transparent_huge_pages", "clock.synchronised"),
)
SETTINGS = """
version: 1
node: {{name: n1, address: 127.0.0.1}}
raft: {{data_dir: {folder}/raft}}
postgresql: {{data_dir: {folder}/pg}}
"""


@pytest.fixture(scope="module")
def other_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is preloaded into a process so that its clock is another."""
    if shutil.which("gcc") is None:
        pytest.skip("no compiler here")
    made = tmp_path_factory.mktemp("clock") / "otherclock.so"
    made.parent.chmod(0o755)
    source = HERE / "otherclock.c"
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", made, source], check=True)
    return made


def test_a_kernel_that_is_set_badly_is_red_all_over(tmp_path: Path, other_clock: Path) -> None:
    """By the command itself, on a machine of which every word is bad."""
    config, clock = tmp_path / "pgherd.yaml", tmp_path / "clock"
    config.write_text(SETTINGS.format(folder=tmp_path))
    config.chmod(0o600)
    clock.write_text("0 free")
    asked = f"{sys.executable} -m pgherd.cli.main doctor --quick --output json -c {config}"
    done = subprocess.run(
        covered(BAD_KERNEL, tmp_path, asked),
        env={**os.environ, "LD_PRELOAD": str(other_clock), "PGHERD_TEST_CLOCK": str(clock)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    if could_not(done):
        pytest.skip("nothing can be mounted here")
    found = {(one["check"], one["node"]): one for one in json.loads(done.stdout)["findings"]}
    assert {(check, "n1") for check in OF_KERNEL} <= red(found), (found, done.stderr)


# --- disks ---------------------------------------------------------------------------------------


def judged(
    asked: dict[str, Path], *, quick: bool = True, room: FreeSpace | None = None
) -> dict[str, Finding]:
    """room: what the node's report says of its disks."""
    report = Observation(
        node=NodeId("n1"),
        raft_id=RaftId(1),
        sequence=1,
        server=ServerSeen(),
        promises=Promises(),
        disks=room.disks if room is not None else (),
    )
    seen = places.look(asked, quick=quick)
    facts = NodeFacts(node=NodeId("n1"), kind=Kind.DATA, version="1", places=seen, report=report)
    return {one.check: one for one in checks.of_node(facts)}


def test_a_disk_in_memory_that_is_full_and_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One small file system: volatile, without file numbers, filling (a minute later by the
    agent's clock), without room, at last read-only."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        mount_tmpfs(disk, 8)
    except Exception:
        pytest.skip("nothing can be mounted here")
    try:
        run("mount", "-o", "remount,nr_inodes=40", str(disk))
        asked = {"raft": disk}
        assert judged(asked)["disk.volatile"].status.is_red
        assert not judged(asked)["disk.room"].status.is_red
        for number in range(39):
            (disk / f"f{number}").touch()
        assert judged(asked)["disk.inodes"].status.is_red
        room, began = FreeSpace(disk), now_ms()
        asyncio.run(room.look())
        assert not judged(asked, room=room)["disk.runway"].status.is_red
        (disk / "f0").write_bytes(b"\0" * (7700 << 10))
        monkeypatch.setattr(growing, "now_ms", lambda: began + growing.SPAN_LEAST_MS + 5000)
        asyncio.run(room.look())
        assert judged(asked, room=room)["disk.runway"].status.is_red
        assert judged(asked)["disk.room"].status.is_red
        run("mount", "-o", "remount,ro", str(disk))
        assert judged(asked)["disk.read_only"].status.is_red
    finally:
        run("umount", "-l", str(disk))


def test_a_disk_that_is_slow_or_flushes_nothing(tmp_path: Path) -> None:
    """Frozen for a while as a hung controller is; then mounted without barriers."""
    try:
        disk = LoopDisk(tmp_path / "loop", size_mb=32)
    except Exception:
        pytest.skip("nothing can be mounted here")
    try:
        asked = {"raft": disk.path}
        disk.freeze(at_most_s=1)
        slow = judged(asked, quick=False)["disk.fsync_raft"]
        assert slow.status.is_red, slow
        run("mount", "-o", "remount,nobarrier", str(disk.path))
        assert judged(asked)["disk.mount_options"].status.is_red
    finally:
        disk.close()


def test_a_directory_on_another_machine(tmp_path: Path) -> None:
    """What sshfs mounts, by the kernel's own word for it."""
    assert not judged({"data": tmp_path})["disk.far"].status.is_red
    try:
        disk = FarAway(tmp_path)
    except OSError as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    try:
        found = judged({"data": tmp_path})["disk.far"]
        assert found.status.is_red
        assert found.text == "data is on fuse.sshfs"
    finally:
        disk.close()


def test_a_slow_disk_for_wal(tmp_path: Path) -> None:
    """It hangs for a second, as a controller does; measured beside the data directory."""
    try:
        disk = LoopDisk(tmp_path / "loop", size_mb=32)
    except Exception:
        pytest.skip("nothing can be mounted here")
    try:
        (disk.path / "pg_wal").mkdir()
        disk.freeze(at_most_s=1)
        found = judged({"wal": disk.path / "pg_wal"}, quick=False)["disk.fsync_wal"]
        assert found.status.is_red, found
    finally:
        disk.close()


# --- a herd whose machines are in trouble --------------------------------------------------------


@contextlib.contextmanager
def with_clock(herd: LocalHerd, name: str, library: Path, clock: Path) -> Iterator[None]:
    """A node whose clock can be set."""
    clock.write_text("0")
    clock.chmod(0o644)
    herd.terminate_node(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(library))
        patch.setenv("PGHERD_TEST_CLOCK", str(clock))
        herd.start_node(name)
    try:
        herd.wait_stable(WAIT_S)
        yield
    finally:
        herd.terminate_node(name)
        herd.start_node(name)
        herd.wait_stable(WAIT_S)


@contextlib.contextmanager
def often_stopped(herd: LocalHerd, name: str) -> Iterator[None]:
    """A node that gets its processor late: most of the time it stands still."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            herd.pause_node(name)
            time.sleep(0.25)
            herd.resume_node(name)
            time.sleep(0.1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.full
@pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)
def test_a_clock_two_hours_ahead(herd: LocalHerd, other_clock: Path, tmp_path: Path) -> None:
    """Both sides see it; nothing of the cluster stands still; what lasts long is known by it."""
    primary = str(herd.primary())
    odd, other = (name for name in herd.nodes if name != primary)
    tmp_path.chmod(0o755)
    for folder in list(tmp_path.parents)[:3]:
        folder.chmod(folder.stat().st_mode | 0o055)
    clock = tmp_path / "clock"
    with with_clock(herd, odd, other_clock, clock):
        set_maintenance(herd, other, enabled=True)
        try:
            clock.write_text(f"{2 * HOUR_S} free")
            until_red(
                herd,
                odd,
                *(("clock.skew", odd), ("clock.skew", other), ("clock.skew", primary)),
                *(("clock.synchronised", odd), ("herd.maintenance", "")),
                query="",
                deadline_s=WAIT_S,
            )
            assert herd.primary() == primary
        finally:
            clock.write_text("0")
            set_maintenance(herd, other, enabled=False)


def set_maintenance(herd: LocalHerd, name: str, *, enabled: bool) -> None:
    path = f"/nodes/{name}/maintenance"
    herd.ask(path, method="POST", body={"enabled": enabled}, timeout_s=15.0)


@pytest.mark.full
@pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)
def test_a_late_machine_and_a_killed_process(herd: LocalHerd) -> None:
    """Stopped again and again, its answers are late; the kernel's kill is known to all on it."""
    primary = str(herd.primary())
    late, other = (name for name in herd.nodes if name != primary)
    with often_stopped(herd, late):
        until_red(herd, other, ("net.latency", other), query="", deadline_s=WAIT_S)
    herd.wait_stable(WAIT_S)
    kill_for_want_of_memory()
    until_red(herd, other, ("memory.oom_kills", other), query="", deadline_s=WAIT_S)


def kill_for_want_of_memory() -> None:
    """A process of our own in a group with little memory, which it uses up."""
    group = Path("/sys/fs/cgroup/memory") / f"pgherd-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(24 << 20))
    except OSError as error:
        pytest.skip(f"no group with a limit can be made here: {error}")
    try:
        eat = f"echo $$ > {group}/cgroup.procs; exec {sys.executable} -c 'bytearray(200 << 20)'"
        code = subprocess.run(["sh", "-c", eat], check=False, timeout=60).returncode
        assert code == -signal.SIGKILL
    finally:
        group.rmdir()
