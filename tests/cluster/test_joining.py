"""Nodes that come, go and come again, by the commands a person types: init, join, remove, recover.

Everything here runs as on separate machines: own directories, TLS, tokens, no shared file.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pgherd.proof.ports import claim_base

DEADLINE_S = 60.0


class Machines:
    """Nodes made by the command line, each below a directory of its own."""

    def __init__(self, ground: Path, postgres_bin: Path) -> None:
        self.ground = ground
        self.postgres_bin = postgres_bin
        self.config: dict[str, Path] = {}
        self.started: list[subprocess.Popen[bytes]] = []

    def pgherd(self, *words: object, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command line, and expect an exit code."""
        done = subprocess.run(
            [sys.executable, "-m", "pgherd.cli.main", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert code is None or done.returncode == code, f"{words}: {done.stdout}\n{done.stderr}"
        return done

    def place(self, name: str, *, data: bool = True) -> list[object]:
        """Options for a new directory and free ports."""
        directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.ground))
        directory.chmod(0o755)
        self.config[name] = directory / "pgherd.yaml"
        words = ["--name", name, "--dir", directory, "--base-port", claim_base()]
        if data:
            words += ["--set", f"postgresql.bin_dir={self.postgres_bin}"]
        return [*words, "--address", "127.0.0.1", "--start", "--timeout", "90"]

    def join(self, name: str, *, via: str, witness: bool = False, proxy: bool = False) -> None:
        """Use what add-node prints, with this machine's places instead of the defaults."""
        kind = [*(["--witness"] if witness else []), *(["--proxy"] if proxy else [])]
        line = self.pgherd("add-node", "--name", name, *kind, "--config", self.config[via]).stdout
        token = line.split("--token ")[1].split()[0]
        self.pgherd("join", *kind, "--token", token, *self.place(name, data=not kind))

    def ask(self, name: str, *words: str) -> Any:
        """The JSON answer of a command, asked at a node."""
        done = self.pgherd(*words, "--config", self.config[name], "--output", "json")
        return json.loads(done.stdout)

    def start(self, name: str) -> None:
        """Start a node's daemon again; whoever makes the machines ends it."""
        file = self.config[name]
        with (file.parent / "pgherd.log").open("ab") as log:
            self.started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "pgherd.cli.main", "start", "--config", str(file)],
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def kill(self, name: str) -> None:
        """SIGKILL everything of a node, as when the machine burns down."""
        end_all(self.config[name].parent, signal.SIGKILL)

    def wait_operational(
        self, name: str, nodes: int, *, voters: list[str] | None = None
    ) -> dict[str, Any]:
        """voters: whose copies a commit may count on in the end; None: whoever."""

        def is_so(now: dict[str, Any]) -> bool:
            whole = now["status"] == "operational" and now["node_count"] == nodes
            return whole and voters in (None, now["synchronous"]["voters"])

        return self.wait_for(name, is_so)

    def wait_peers(self, name: str, suffrages: dict[str, str]) -> dict[str, Any]:
        """Ask a node for the members of consensus until they are as wanted."""
        until = time.monotonic() + DEADLINE_S
        while True:
            peers = {peer["node"]: peer for peer in self.ask(name, "raft", "peers")}
            if {one: peer["suffrage"] for one, peer in peers.items()} == suffrages:
                return peers
            assert time.monotonic() < until, peers
            time.sleep(0.3)

    def wait_for(self, name: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask a node for its status until it is as wanted."""
        until = time.monotonic() + DEADLINE_S
        while True:
            status: dict[str, Any] = self.ask(name, "status")
            if is_so(status):
                return status
            assert time.monotonic() < until, status
            time.sleep(0.3)


def processes_of(directory: Path) -> list[int]:
    """Every process whose command line names the directory."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if f"{directory}/".encode() in words and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return sorted(found)


def end_all(directory: Path, number: signal.Signals) -> None:
    until = time.monotonic() + DEADLINE_S
    while found := processes_of(directory):
        assert time.monotonic() < until, f"{found} do not end"
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        time.sleep(0.2)


@pytest.fixture
def machines(stable: Any) -> Iterator[Machines]:
    """A place for nodes; whatever runs in it in the end is killed."""
    ground = Path(tempfile.mkdtemp(prefix="pgherd-machines-", dir="/var/tmp"))
    ground.chmod(0o755)
    made = Machines(ground, stable.postgres_bin)
    try:
        yield made
    finally:
        for daemon in made.started:
            daemon.kill()
            daemon.wait()
        end_all(ground, signal.SIGKILL)
        shutil.rmtree(ground)


def test_a_dead_node_is_replaced_under_its_name(machines: Machines) -> None:
    """Two data members and a witness; one dies for good, is removed, and its name joins anew."""
    machines.pgherd("init", *machines.place("n1"))
    machines.join("n2", via="n1")
    machines.join("w3", via="n1", witness=True)
    status = machines.wait_operational("n1", 3, voters=["n2"])
    assert status["primary_node_id"] == "n1"
    peers = machines.wait_peers("n2", {"n1": "voter", "n2": "voter", "w3": "witness"})
    machines.pgherd("raft", "transfer", "--to", "w3", "--config", machines.config["n1"])
    machines.wait_for("n2", lambda now: now["raft_leader"] == "w3")
    machines.kill("n2")
    gone = machines.pgherd(
        "remove-node", "--name", "n2", "--yes", "--config", machines.config["n1"]
    )
    assert "n2 is no member any more" in gone.stdout
    assert "NO copy is left" in gone.stderr
    machines.join("n2", via="n1")
    machines.wait_operational("n1", 3, voters=["n2"])
    again = {peer["node"]: peer["raft_id"] for peer in machines.ask("n1", "raft", "peers")}
    assert again["n2"] > max(peer["raft_id"] for peer in peers.values())


@pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)
def test_two_nodes_say_what_they_lack_until_a_witness_joins(machines: Machines) -> None:
    """Switchover works between two; one alone promotes nobody and says why; a witness mends it."""
    machines.pgherd("init", *machines.place("n1"))
    machines.join("n2", via="n1")
    [warning] = machines.wait_operational("n1", 2)["warnings"]
    assert warning.startswith("n1 and n2 are all that vote")
    assert f"! {warning}" in machines.pgherd("status", "--config", machines.config["n2"]).stdout
    machines.pgherd("switchover", "--yes", "--config", machines.config["n1"])
    status = machines.wait_operational("n1", 2)
    assert status["primary_node_id"] == "n2"
    machines.pgherd("add-node", "--name", "n9", "--config", machines.config["n1"])
    until_told(machines, "n2", "herd.even_voters", "herd.join_tokens")
    machines.kill("n2")
    silent = "n2 is silent: nobody is made primary by itself"
    machines.wait_for(
        "n1", lambda now: not now["has_quorum"] and any(silent in p for p in now["problems"])
    )
    ways = machines.pgherd("explain", "--config", machines.config["n1"]).stdout
    assert "pgherd raft recover" in ways
    assert "--witness" in ways
    time.sleep(3)
    assert machines.ask("n1", "status")["epoch"] == status["epoch"], "a term without a quorum"
    machines.start("n2")
    machines.wait_operational("n1", 2)
    before = {name: daemon_of(machines, name) for name in ("n1", "n2")}
    machines.join("w3", via="n1", witness=True)
    machines.wait_operational("n1", 3)
    status = machines.wait_for(
        "n1", lambda now: len(now["raft_voters"]) == 3 and not now["warnings"]
    )
    assert {name: daemon_of(machines, name) for name in ("n1", "n2")} == before
    primary = status["primary_node_id"]
    left = "n1" if primary == "n2" else "n2"
    machines.kill(primary)
    machines.wait_for(left, lambda status: status["primary_node_id"] == left)


def until_told(machines: Machines, name: str, *checks: str) -> None:
    """Until `pgherd doctor` on a node has these checks red."""
    until = time.monotonic() + DEADLINE_S
    words = ("doctor", "--quick", "--output", "json", "--config", machines.config[name])
    while True:
        told = json.loads(machines.pgherd(*words, code=None).stdout)
        red = {one["check"] for one in told["findings"] if one["status"] not in ("ok", "unknown")}
        if red >= set(checks):
            return
        assert time.monotonic() < until, told
        time.sleep(0.3)


@pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)
def test_a_proxy_node_joins_and_leaves(machines: Machines) -> None:
    """Its file has no section of PostgreSQL, clients reach the primary by it, it has no vote."""
    machines.pgherd("init", *machines.place("n1"))
    machines.join("p2", via="n1", proxy=True)
    text = machines.config["p2"].read_text()
    assert "postgresql:" not in text
    assert "superuser" not in text
    machines.wait_for("p2", lambda now: now["node_count"] == 2 == now["healthy_nodes"])
    [proxy] = [one for one in machines.ask("p2", "nodes") if one["name"] == "p2"]
    assert (proxy["role"], proxy["is_voter"]) == ("proxy", False)
    [peer] = [one for one in machines.ask("n1", "raft", "peers") if one["node"] == "p2"]
    assert (peer["suffrage"], peer["why"]) == ("non-voter", "a proxy node never votes")
    gone = ("remove-node", "--name", "p2", "--yes", "--config", machines.config["n1"])
    assert "p2 is no member any more" in machines.pgherd(*gone).stdout


def daemon_of(machines: Machines, name: str) -> list[int]:
    """The daemon's processes of a node."""
    directory = machines.config[name].parent
    return [pid for pid in processes_of(directory) if "pgherd" in command_of(pid)]


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def test_a_cluster_grows_again_after_lost_quorum(machines: Machines) -> None:
    """The last of two recovers alone, leads, and a new node joins it."""
    machines.pgherd("init", *machines.place("n1"))
    machines.join("n2", via="n1")
    machines.wait_operational("n1", 2)
    machines.kill("n1")
    end_all(machines.config["n2"].parent, signal.SIGTERM)
    file = machines.config["n2"]
    first = machines.pgherd("raft", "recover", "--config", file, code=3)
    assert "given up  n1" in first.stdout
    machines.pgherd("raft", "recover", "--config", file, "--keep-this-node", "--yes-i-compared")
    machines.start("n2")
    until = time.monotonic() + DEADLINE_S
    while machines.pgherd("status", "--config", file, code=None).returncode:
        assert time.monotonic() < until
        time.sleep(0.3)
    status = machines.wait_operational("n2", 1)
    assert status["primary_node_id"] == "n2"
    machines.join("n3", via="n2")
    machines.wait_operational("n2", 2, voters=["n3"])
    ids = {peer["node"]: peer["raft_id"] for peer in machines.ask("n2", "raft", "peers")}
    assert ids["n3"] > 1000, "ids that the lost majority may have given are skipped"
