"""The facts of a check-up come from the real thing: processes, sockets, files, mounts of this test.

Each test makes a real fault and sees the check red by what was gathered; of kernel settings, which
no test may change, the parsing is tested on the kernel's own words.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from pgherd.config.load import load
from pgherd.config.settings import Settings
from pgherd.model.checkup import (
    HERD,
    Database,
    Finding,
    Machine,
    NodeFacts,
    Process,
    Reached,
    Status,
)
from pgherd.model.facts import Address, Kind
from pgherd.model.ids import NodeId
from pgherd.observe.doctor import files, machine, places, ways
from pgherd.plan.doctor import checks

N1 = NodeId("n1")
SMALL = Database(settings={"max_connections": "100", "shared_buffers": "16384"})


def judged(**parts: object) -> dict[str, Finding]:
    """What the table says of these facts."""
    facts = NodeFacts(node=N1, kind=Kind.DATA, version="1", **parts)  # type: ignore[arg-type] # a test's own
    return {one.check: one for one in checks.of_node(facts)}


# --- processes -----------------------------------------------------------------------------------


@contextmanager
def sleeper(*limits: str) -> Iterator[int]:
    """A process of its own with these limits (ulimit's options)."""
    words = "; ".join(f"ulimit {one}" for one in limits) or "true"
    process = subprocess.Popen(
        ["bash", "-c", f"{words}; echo ready; exec sleep 600"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def test_too_few_files_and_processes_and_a_core_are_seen_in_a_real_process() -> None:
    with sleeper("-n 200", "-u 90", "-c 1000") as pid:
        found = machine.of_process("postgresql", pid)
    assert (found.files_max, found.tasks_max) == (200, 90)
    assert found.core_bytes in (1000 << 10, 1000 << 9)
    seen = judged(processes=(found,), database=SMALL, machine=Machine(core_pattern="core"))
    for check in ("limits.files", "limits.tasks", "limits.core"):
        assert seen[check].status.is_red, seen[check]


def test_files_that_are_open_count() -> None:
    """A process that has used its files up, whatever their number."""
    program = "f=[open('/dev/null') for _ in range(180)]; print('ready', flush=True); input()"
    process = subprocess.Popen(
        ["bash", "-c", f'ulimit -n 200; exec {sys.executable} -c "{program}"'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        found = machine.of_process("agent", process.pid)
    finally:
        process.kill()
        process.wait()
    assert found.files_open is not None
    assert found.files_open > 180
    wide = msgspec.structs.replace(found, files_max=found.files_open)
    assert judged(processes=(wide,))["limits.files"].status.is_red


def test_whom_the_kernel_kills_first_is_read() -> None:
    with sleeper() as pid:
        Path(f"/proc/{pid}/oom_score_adj").write_text("300")
        found = machine.of_process("postgresql", pid)
    assert found.oom_score_adj == 300
    assert judged(processes=(found,))["limits.oom_score"].status.is_red


def test_a_daemon_that_systemd_did_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where systemd runs, which a directory of its says (sd_booted(3))."""
    process = machine.of_process("agent", os.getpid())
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    here = machine.look(systemd=tmp_path)
    without = machine.with_starter(process, dict(os.environ))
    started = machine.with_starter(process, {"INVOCATION_ID": "f00"})
    assert judged(machine=here, processes=(without,))["systemd.unit"].status.is_red
    assert not judged(machine=here, processes=(started,))["systemd.unit"].status.is_red
    elsewhere = machine.look(systemd=tmp_path / "none")
    assert "systemd.unit" not in judged(machine=elsewhere, processes=(without,))


# --- the kernel ----------------------------------------------------------------------------------


def test_this_machine_is_read_as_its_kernel_tells() -> None:
    found = machine.look()
    vm = Path("/proc/sys/vm")
    assert found.overcommit == int((vm / "overcommit_memory").read_text())
    assert found.swappiness == int((vm / "swappiness").read_text())
    assert found.core_pattern == Path("/proc/sys/kernel/core_pattern").read_text().strip()
    assert found.cores == os.cpu_count()
    assert found.load is not None
    assert found.memory is not None
    assert found.clock_synchronised in (True, False, None)


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """Files as a kernel writes them, of a machine on which everything is wrong."""
    told = {
        "proc/loadavg": "90.12 88.01 77.50 3/812 4242\n",
        "proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 200000 kB\nSwapTotal: 1000 kB\n"
        "SwapFree: 100 kB\n",
        "proc/vmstat": "oom_kill 3\n",
        "proc/self/cgroup": "0::/pgherd.service\n",
        "proc/sys/vm/overcommit_memory": "0\n",
        "proc/sys/vm/swappiness": "60\n",
        "proc/sys/vm/nr_hugepages": "0\n",
        "proc/sys/vm/zone_reclaim_mode": "1\n",
        "proc/sys/vm/dirty_bytes": "0\n",
        "proc/sys/vm/dirty_ratio": "60\n",
        "proc/sys/kernel/core_pattern": "core\n",
        "proc/pressure/io": "some avg10=70.00 avg60=65.00 avg300=9.00 total=1\n"
        "full avg10=50.00 avg60=41.50 avg300=9.00 total=1\n",
        "proc/pressure/memory": "some avg10=1.00 avg60=30.00 avg300=9.00 total=1\n"
        "full avg10=1.00 avg60=22.00 avg300=9.00 total=1\n",
        f"sys/{machine.CLOCK_SOURCE}": "hpet\n",
        "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never\n",
        "sys/fs/cgroup/pgherd.service/pids.max": "120\n",
        "sys/fs/cgroup/pgherd.service/pids.current": "7\n",
    }
    for name, text in told.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_kernel_that_is_set_badly_is_red_all_over(kernel: Path) -> None:
    found = machine.look(proc=kernel / "proc", sys=kernel / "sys", systemd=kernel / "none")
    big = Database(settings={"max_connections": "100", "shared_buffers": str(8 << 17)})
    seen = judged(machine=found, processes=(Process("postgresql", 1),), database=big)
    for check in (
        *("clock.source", "memory.available", "memory.swap", "memory.overcommit"),
        *("memory.swappiness", "memory.huge_pages", "memory.transparent_huge_pages"),
        *("memory.shared_buffers", "memory.zone_reclaim", "memory.dirty", "pressure.memory"),
        *("pressure.io", "cpu.load", "limits.tasks"),
    ):
        assert seen[check].status.is_red, seen[check]
    assert found.dirty_bytes == 8_000_000 * 1024 * 60 // 100


def test_what_a_kernel_does_not_tell_is_unknown(tmp_path: Path) -> None:
    found = machine.look(proc=tmp_path, sys=tmp_path, systemd=tmp_path)
    seen = judged(machine=found, database=SMALL)
    for check in ("clock.source", "memory.available", "pressure.io", "cpu.load", "memory.dirty"):
        assert seen[check].status is Status.UNKNOWN, seen[check]
        assert seen[check].text


# --- ports ---------------------------------------------------------------------------------------


def test_open_refused_silent_and_unknown_ports_are_told_apart() -> None:
    """Real sockets: one that listens, one that is closed, one whose queue is full."""
    with socket.create_server(("127.0.0.1", 0)) as open_one, socket.socket() as full:
        port = open_one.getsockname()[1]
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        silent = full.getsockname()[1]
        waiting = []
        for _ in range(8):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", silent))
            waiting.append(one)
        with socket.create_server(("127.0.0.1", 0)) as gone:
            closed = gone.getsockname()[1]
        try:
            host = "127.0.0.1"
            n2 = Address(host, port, silent, closed, port, raft_host=host)
            n3 = Address("a" * 64 + ".example", port)  # no label is so long: no resolver is asked
            found = asyncio.run(ways.try_all({NodeId("n2"): n2, NodeId("n3"): n3}))
        finally:
            for one in waiting:
                one.close()
    outcomes = {(one.node, one.channel): one.outcome for one in found}
    assert outcomes == {
        ("n2", "raft"): Reached.OK,
        ("n2", "postgresql"): Reached.SILENT,
        ("n2", "api"): Reached.REFUSED,
        ("n2", "proxy"): Reached.OK,
        ("n3", "raft"): Reached.UNRESOLVED,
    }
    seen = judged(ways=found)
    red = {name for name, one in seen.items() if one.status.is_red and name != "agent.running"}
    assert red == {"port.raft", "port.postgresql", "port.api", "net.firewall", "net.names"}
    assert not seen["port.proxy"].status.is_red


# --- files ---------------------------------------------------------------------------------------

CONFIG = """
version: 1
node: {{name: n1, address: 127.0.0.1}}
raft: {{data_dir: {folder}/raft}}
postgresql:
  data_dir: {folder}/pg/data
  superuser: {{password: {superuser}}}
  replication: {{password: "file:{folder}/replication"}}
"""


def settings(folder: Path, superuser: str) -> tuple[Settings, Path]:
    (folder / "replication").write_text("s3cret-word\n")
    (folder / "raft").mkdir(exist_ok=True)
    (folder / "pg" / "data").mkdir(parents=True, exist_ok=True)
    config = folder / "pgherd.yaml"
    config.write_text(CONFIG.format(folder=folder, superuser=superuser))
    for path, mode in (("replication", 0o600), ("pgherd.yaml", 0o600), ("raft", 0o700)):
        (folder / path).chmod(mode)
    (folder / "pg" / "data").chmod(0o700)
    return load(str(config), {}, check_files=False), config


def test_files_with_secrets_that_others_can_read(tmp_path: Path) -> None:
    """Also the configuration itself, where a password stands in it."""
    read, config = settings(tmp_path, '"a literal password"')
    assert not judged(files=files.look(read, config))["files.secrets"].status.is_red
    config.chmod(0o644)
    found = judged(files=files.look(read, config))["files.secrets"]
    assert found.status.is_red
    assert f"{config} has mode 0644" in found.text
    config.chmod(0o600)
    (tmp_path / "replication").chmod(0o640)
    assert judged(files=files.look(read, config))["files.secrets"].status.is_red


def test_what_is_roots_may_be_read_by_our_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As packages and PostgreSQL itself have it for keys; written to or by all: no."""
    read, config = settings(tmp_path, '"a literal password"')
    if os.geteuid() != 0:
        pytest.skip("files of root's need root")
    monkeypatch.setattr(os, "geteuid", lambda: 26)
    for mode, is_red in ((0o640, False), (0o660, True), (0o644, True)):
        config.chmod(mode)
        assert judged(files=files.look(read, config))["files.secrets"].status.is_red is is_red


def test_a_configuration_without_passwords_may_be_read_by_all(tmp_path: Path) -> None:
    read, config = settings(tmp_path, "null")
    config.chmod(0o644)
    assert not judged(files=files.look(read, config))["files.secrets"].status.is_red


def test_a_secret_that_is_gone_and_directories_that_are_open(tmp_path: Path) -> None:
    read, config = settings(tmp_path, "null")
    before = judged(files=files.look(read, config))
    assert not before["files.secrets_readable"].status.is_red
    assert not before["files.directories"].status.is_red
    (tmp_path / "replication").unlink()
    (tmp_path / "pg" / "data").chmod(0o755)
    after = judged(files=files.look(read, config))
    assert after["files.secrets_readable"].status.is_red
    assert after["files.directories"].status.is_red
    assert after["files.secrets"].status is Status.UNKNOWN


# --- disks ---------------------------------------------------------------------------------------


def test_the_mount_of_a_path_is_the_nearest_and_the_newest() -> None:
    table = (
        "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n"
        "22 21 8:2 / /srv ro,noatime shared:2 - xfs /dev/sdb1 rw,nobarrier\n"
        "23 22 0:44 / /srv/my\\040disk rw - nfs4 box:/x rw,soft\n"
        "24 23 0:45 / /srv/my\\040disk rw - tmpfs tmpfs rw,size=1k\n"
    )
    assert places.mount_of("/srv/my disk/pg", table)[0] == "tmpfs"
    assert places.mount_of("/srv/pg", table) == ("xfs", ("ro", "noatime", "rw", "nobarrier"))
    assert places.mount_of("/srvother", table)[0] == "ext4"


def test_a_directory_is_looked_at_and_nothing_stays_in_it(tmp_path: Path) -> None:
    data = tmp_path / "pg" / "data"
    (data / "pg_wal").mkdir(parents=True)
    (data / "PG_VERSION").write_text("15\n")
    (tmp_path / "raft").mkdir()
    asked = {"raft": tmp_path / "raft", "data": data, "wal": data / "pg_wal"}
    found = {one.name: one for one in places.look(asked, quick=False)}
    for one in found.values():
        assert one.fsync_ms is not None
        assert one.fsync_ms >= 0
        assert one.kind
        assert one.size_bytes
        assert one.device == tmp_path.stat().st_dev
    assert sorted(path.name for path in data.iterdir()) == ["PG_VERSION", "pg_wal"]
    assert all(one.fsync_ms is None for one in places.look(asked, quick=True))
    assert judged(places=tuple(found.values()))["disk.shared"].status.is_red


def test_a_directory_that_is_not_there_is_not_well(tmp_path: Path) -> None:
    seen = judged(places=places.look({"raft": tmp_path / "gone"}, quick=False))
    assert seen["disk.room"].status is Status.UNKNOWN
    assert "No such file" in seen["disk.fsync_raft"].text
    assert HERD == ""
