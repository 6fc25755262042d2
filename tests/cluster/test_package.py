"""The Debian package installs, runs a cluster as its unit says, and leaves no trace but the data.

Built from this checkout, installed with dpkg in a root of its own, run by a service manager that
does what the unit's lines say about processes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testroot import TestRoot, made_root

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.cluster, pytest.mark.full, pytest.mark.timeout(400)]
DEADLINE_S = 90.0
VIP = "10.99.0.100"
MOVES = f"vip=[{{address: {VIP}/24, interface: eth9, follow: primary}}]"
WAYS_IN = "node.address={listen: 127.0.0.1, advertise: 127.0.0.1, proxy: {listen: 0.0.0.0}}"
INIT = ("init", "--name", "n1", "--address", "127.0.0.1")
CONFIG, DATA = "/etc/pgherd", "/var/lib/pgherd"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built here."""
    into = tmp_path_factory.mktemp("deb")
    command = [sys.executable, str(ROOT / "packaging" / "deb.py"), "--into", str(into)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Path(said.strip())


@pytest.fixture
def machine(package: Path) -> Iterator[TestRoot]:
    """A machine without pgherd, and without the user of PostgreSQL."""
    with made_root() as root:
        root.try_run("userdel", "postgres")
        root.put(package, "/tmp/pgherd.deb")
        yield root


@pytest.fixture
def booted(package: Path) -> Iterator[TestRoot]:
    """A machine with systemd."""
    if not Path("/lib/systemd/systemd").exists():
        pytest.skip("systemd is not installed")
    with made_root(boots=True) as root:
        root.put(package, "/tmp/pgherd.deb")
        wait_for(
            lambda: root.try_run("systemctl", "is-system-running").stdout.strip() == "running",
            "systemd runs",
        )
        yield root


class Service:
    """The unit, run in a root; its lines as they come."""

    def __init__(self, root: TestRoot) -> None:
        root.put(Path(__file__).with_name("servicemanager.py"), "/tmp/servicemanager.py")
        unit = "/usr/lib/systemd/system/pgherd.service"
        command = root.command("/usr/bin/python3", "-I", "/tmp/servicemanager.py", unit)
        self._root = root
        self._manager = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.main = self.hear("main")

    def hear(self, word: str) -> str:
        """Read until a line begins so; its rest."""
        assert self._manager.stdout is not None
        for line in self._manager.stdout:
            if line.startswith(word):
                return line[len(word) :].strip()
        raise AssertionError(f"no {word} came:\n{self._root.run('tail', '-40', '/tmp/pgherd.log')}")

    def end(self) -> None:
        self._manager.kill()
        self._manager.wait()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Look until it is so."""
    until = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(0.3)


def leads(root: TestRoot) -> bool:
    """Whether the node is a primary that takes writes."""
    done = root.try_run("pgherd", "status", "--output", "json", user="postgres")
    return done.returncode == 0 and json.loads(done.stdout)["primary_node_id"] == "n1"


def rights(root: TestRoot, program: str) -> set[str]:
    """The effective capabilities of every process whose command line begins so."""
    each = 'sed -n "s/^CapEff:[^0-9a-f]*//p" /proc/$pid/status'
    script = f'for pid in $(pgrep -u postgres --full "$1"); do {each}; done'
    return set(root.run("sh", "-c", script, "sh", program).split())


def scores(root: TestRoot) -> set[str]:
    """What the kernel thinks of PostgreSQL's processes when it is short of memory."""
    script = "for pid in $(pgrep postgres); do cat /proc/$pid/oom_score_adj; done"
    return set(root.run("sh", "-c", script).split())


def sums(root: TestRoot) -> str:
    """What lies in the data's directory: names, owners, rights and content."""
    script = (
        f"cd {DATA} && find . -printf '%p %u %m\\n' | sort && "
        "find . -type f -print0 | sort -z | xargs -0 sha256sum"
    )
    return root.run("sh", "-c", script)


def test_a_node_from_the_package(machine: TestRoot) -> None:
    """Install, init, start, write, reload, stop; remove and purge with data, and without."""
    before = machine.changed()
    machine.run("dpkg", "-i", "/tmp/pgherd.deb")
    assert machine.run("pgherd", "version").startswith("pgherd ")
    assert machine.run("stat", "-c", "%U %a", CONFIG, DATA).split() == ["postgres", "750"] * 2
    as_root = machine.try_run("pgherd", *INIT)
    assert as_root.returncode == 2
    assert "sudo -u postgres pgherd" in as_root.stderr

    machine.run("ip", "link", "add", "eth9", "type", "veth", "peer", "name", "eth8")
    for end in ("eth8", "eth9"):
        machine.run("ip", "link", "set", end, "up")
    machine.run("ip", "addr", "add", "10.99.0.1/24", "dev", "eth9")
    machine.run("pgherd", *INIT, "--set", WAYS_IN, "--set", MOVES, user="postgres")
    machine.run("pgherd", "start", "--validate", user="postgres")
    service = Service(machine)
    try:
        service.hear("READY=1")
        wait_for(lambda: leads(machine), "n1 leads")
        psql = ("pgherd", "psql", "--", "-XAtc")
        machine.run(*psql, "CREATE TABLE kept AS SELECT 42 AS answer", user="postgres")
        wait_for(lambda: VIP in machine.run("ip", "-4", "addr", "show", "eth9"), "the address")
        assert rights(machine, ".*pgherd.daemon.main") == {"0000000000003000"}
        assert rights(machine, "/usr/lib/postgresql/.*/postgres -D") == {"0000000000000000"}
        agent = machine.run("pgrep", "--full", "pgherd.daemon.main")
        machine.run("sed", "-i", "s/^  level: info/  level: debug/", f"{CONFIG}/pgherd.yaml")
        machine.run("kill", "-HUP", service.main)
        log = "/tmp/pgherd.log"
        wait_for(lambda: "config.changed" in machine.run("cat", log), "the file is read again")
        assert machine.run("pgrep", "--full", "pgherd.daemon.main") == agent
        machine.run("pkill", "--full", "servicemanager.py")
        service.hear("STOPPING=1")
        assert service.hear("exit") == "0"
    finally:
        service.end()
    assert machine.try_run("pgrep", "-u", "postgres").stdout == ""
    controldata = machine.run(
        "sh",
        "-c",
        f"$(ls -d /usr/lib/postgresql/*/bin/pg_controldata | tail -1) {DATA}/postgresql/data",
    )
    assert "shut down" in controldata

    data = sums(machine)
    machine.run("dpkg", "--remove", "pgherd")
    assert sums(machine) == data
    machine.run("dpkg", "--purge", "pgherd")
    assert sums(machine) == data
    assert machine.try_run("test", "-e", f"{CONFIG}/pki/ca.key").returncode == 0
    assert machine.try_run("test", "-e", "/usr/lib/pgherd").returncode != 0

    machine.run("dpkg", "-i", "/tmp/pgherd.deb")
    assert sums(machine) == data
    machine.run("rm", "-rf", DATA)
    machine.run("dpkg", "--purge", "pgherd")
    own = (
        "var/lib/dpkg",
        "var/log",
        "var/cache",
        "etc/passwd",
        "etc/group",
        "etc/shadow",
        "etc/gshadow",
        "etc/subuid",
        "etc/subgid",
        "etc/.pwd.lock",
    )
    left = {path for path in machine.changed() - before if not path.startswith(own)}
    assert not {path for path in left if "pgherd" in path}, left


def steps_of(path: Path, word: str) -> list[str]:
    """What a container file says of one thing, each on one line."""
    joined = path.read_text().replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.startswith(f"{word} ")]
    return [line.removeprefix(f"{word} ") for line in lines]


def offer(machine: TestRoot, names: tuple[str, ...], scratch: Path) -> None:
    """Have apt find these packages, and nothing else, in the root."""
    command = ["apt-get", "download", *names]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"apt-get cannot download: {done.stderr}")
    machine.run("mkdir", "/tmp/offered")
    for path in scratch.glob("*.deb"):
        machine.put(path, f"/tmp/offered/{path.name}")
    index = "cd /tmp/offered && dpkg-scanpackages --multiversion . > Packages"
    machine.run("sh", "-c", index)
    machine.run("sh", "-c", "rm -rf /etc/apt/sources.list.d/* /etc/apt/sources.list")
    source = "echo 'deb [trusted=yes] file:/tmp/offered ./' > /etc/apt/sources.list"
    machine.run("sh", "-c", source)


def test_the_steps_of_the_container_file(machine: TestRoot, package: Path, tmp_path: Path) -> None:
    """They install where no PostgreSQL was; then its user, directory and command make a primary."""
    if shutil.which("dpkg-scanpackages") is None:
        pytest.skip("needs dpkg-dev")
    file = ROOT / "packaging" / "Containerfile"
    script = (
        "dpkg-query -W -f '${Package}\\n' 'postgresql*' pgbouncer pgbackrest 2>/dev/null || true"
    )
    there = [one for one in machine.run("sh", "-c", script).split() if one]
    machine.run("rm", "-rf", "/etc/postgresql", "/var/lib/postgresql", "/var/log/postgresql")
    quiet = ("env", "DEBIAN_FRONTEND=noninteractive")
    machine.run(*quiet, "dpkg", "--purge", "--force-depends", *there)
    machine.run("rm", "-rf", "/etc/postgresql-common", "/usr/lib/postgresql")
    needed = ("postgresql", "postgresql-15", "postgresql-common")
    offer(machine, (*needed, "postgresql-client-15", "postgresql-client-common"), tmp_path)

    machine.run("sh", "-c", f"rm /tmp/pgherd.deb; mkdir -p {CONFIG}")
    machine.put(package, f"/tmp/{package.name}")
    [install] = steps_of(file, "RUN")
    machine.run("sh", "-c", install)
    assert machine.try_run("sh", "-c", "ls /etc/postgresql/*/main").returncode != 0
    assert machine.try_run("sh", "-c", "ls /tmp/*.deb").returncode != 0
    [user], [variable] = steps_of(file, "USER"), steps_of(file, "ENV")
    command = json.loads(steps_of(file, "CMD")[0])
    machine.run("env", variable, "pgherd", *INIT, user=user)
    node = subprocess.Popen(machine.command("env", variable, *command, user=user))
    try:
        wait_for(lambda: leads(machine), "n1 leads")
        main = machine.run("pgrep", "-o", "-u", user).strip()
        machine.run("kill", "-TERM", main)
        assert node.wait(DEADLINE_S) == 0
    finally:
        node.kill()
        node.wait()
    assert machine.try_run("pgrep", "-u", "postgres").stdout == ""


def test_systemd_runs_it(booted: TestRoot) -> None:
    """The whole unit, hardening and all: JIT works, /usr is closed, a kill is survived."""
    booted.run("dpkg", "-i", "/tmp/pgherd.deb")
    booted.run("pgherd", *INIT, user="postgres")
    booted.run("systemctl", "enable", "--now", "pgherd")
    assert booted.run("systemctl", "is-active", "pgherd").strip() == "active"
    wait_for(lambda: leads(booted), "n1 leads")
    psql = ("pgherd", "psql", "--", "-XAtc")
    booted.run(*psql, "CREATE TABLE kept AS SELECT 42 AS answer", user="postgres")
    compiled = "SET jit_above_cost = 0; SELECT sum(n) FROM generate_series(1, 1000) n"
    assert booted.run(*psql, compiled, user="postgres").split()[-1] == "500500"
    assert booted.run("systemctl", "show", "-P", "OOMPolicy", "pgherd").strip() == "continue"
    main = booted.run("systemctl", "show", "-P", "MainPID", "pgherd").strip()
    status = booted.run("cat", f"/proc/{main}/status")
    if booted.run("cat", f"/proc/{main}/oom_score_adj").strip() == "-900":  # CAP_SYS_RESOURCE here
        assert scores(booted) == {"-900", "0"}, "the postmaster is spared, what it forks is not"
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    for path, closed in (("/usr", True), ("/etc", True), (CONFIG, False), (DATA, False)):
        writable = booted.try_run("test", "-w", f"/proc/{main}/root{path}").returncode == 0
        assert writable is not closed, path
    booted.run("systemctl", "reload", "pgherd")
    booted.run("kill", "-KILL", main)
    wait_for(
        lambda: (
            booted.run("systemctl", "show", "-P", "MainPID", "pgherd").strip() not in ("0", main)
            and leads(booted)
        ),
        "systemd has started it again",
    )
    assert booted.run(*psql, "SELECT answer FROM kept", user="postgres").strip() == "42"
    booted.run("dpkg", "--remove", "pgherd")
    assert booted.try_run("pgrep", "-u", "postgres").stdout == ""
    assert booted.try_run("test", "-e", f"{DATA}/postgresql/data/PG_VERSION").returncode == 0
