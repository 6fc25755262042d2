"""Servers that somebody else made become nodes by `pgherd adopt`, with all that is in them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from test_joining import Machines, end_all, machines

from pgherd.postgres.identity import resolve
from pgherd.postgres.processes import parse_pid_file
from pgherd.postgres.tools import as_user, clean_environment
from pgherd.proof.ports import claim_base

__all__ = ["machines"]

ROWS = 1000


class Standalone:
    """A server made by PostgreSQL's own programs, in a directory of its own."""

    def __init__(self, machines: Machines, name: str) -> None:
        self.bin = machines.postgres_bin
        self.home = machines.ground / name
        self.data = self.home / "data"
        self.port = 0
        self.home.mkdir()
        self.home.chmod(0o755)
        self.user = resolve()
        if self.user is not None:
            os.chown(self.home, self.user.uid, self.user.gid)

    def run(self, program: str, *words: object) -> None:
        """One of PostgreSQL's programs, as its user."""
        argv = [str(self.bin / program), *map(str, words)]
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=clean_environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            **as_user(self.user),
        )
        assert done.returncode == 0, f"{argv}: {done.stdout}\n{done.stderr}"

    def make(self) -> None:
        """A primary with rows."""
        self.run("initdb", "-D", self.data, "-U", "postgres", "--auth-local=peer", "-A", "trust")
        self.start()
        with self.connect() as connection:
            connection.execute("CREATE TABLE old (n int PRIMARY KEY)")
            connection.execute("INSERT INTO old SELECT generate_series(1, %s)", (ROWS,))

    def start(self) -> None:
        self.port = self.port or claim_base()
        words = f"-p {self.port} -k {self.home} -c listen_addresses=127.0.0.1"
        log = self.home / "log"
        self.run("pg_ctl", "start", "-w", "-D", self.data, "-l", log, "-o", words)

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname="postgres", autocommit=True
        )

    def copy(self, primary: Standalone) -> None:
        """A standby of another one that streams."""
        self.run(
            *("pg_basebackup", "-D", self.data, "-R", "-X", "stream", "-c", "fast"),
            *("-h", "127.0.0.1", "-p", primary.port, "-U", "postgres"),
        )
        self.start()

    @property
    def pid(self) -> int:
        found = parse_pid_file((self.data / "postmaster.pid").read_text())
        assert found is not None
        return found.pid


def rows(port: int) -> int:
    with psycopg.connect(
        host="127.0.0.1", port=port, user="postgres", dbname="postgres"
    ) as connection:
        row = connection.execute("SELECT count(*) FROM old").fetchone()
    assert row is not None
    return int(row[0])


def adopt(machines: Machines, name: str, data: Path, *words: object) -> str:
    """Adopt a server and start it, on free ports for all but itself; what is said."""
    place = machines.place(name, data=False)
    return machines.pgherd("adopt", "--data-dir", data, *words, *place, "--yes").stderr


@pytest.mark.parametrize("stable", ["debian-15"], indirect=True)
def test_a_pair_is_adopted_in_place(machines: Machines) -> None:
    """Neither is cloned nor restarted; a third joins by clone; the rows outlive the first one.

    The first command is cut short, and typed again. The third node finds another's directory in its
    place, and keeps it. In the end all is gone but one stopped directory, which founds anew, above
    the terms that it was written in.
    """
    first, second = Standalone(machines, "first"), Standalone(machines, "second")
    first.make()
    second.copy(first)
    pids = first.pid, second.pid
    place = machines.place("n1", data=False)
    words = ["adopt", "--data-dir", first.data, "--yes", *place]
    machines.pgherd(*words, "--no-start")
    told = machines.pgherd(*words, "--start").stderr
    assert "it is not restarted" in told
    assert "adopt its standbys next: walreceiver" in told
    token = machines.pgherd("token", "create", "--join", "--config", machines.config["n1"]).stdout
    adopt(machines, "n2", second.data, "--token", token.strip())
    assert (first.pid, second.pid) == pids
    assert not list(second.home.glob("data.old-*")), "it was cloned anew"
    place = machines.place("n3")
    foreign = machines.config["n3"].parent / "postgresql" / "data"
    foreign.mkdir(parents=True)
    (foreign / "mine").write_text("keep me")
    token = machines.pgherd("token", "create", "--join", "--config", machines.config["n1"]).stdout
    words = ["join", "--token", token.strip(), *place]
    assert "pgherd join --move-aside" in machines.pgherd(*words, code=2).stderr
    machines.pgherd(*words, "--move-aside")
    assert (foreign.with_name("data.aside-1") / "mine").read_text() == "keep me"
    status = machines.wait_operational("n1", 3, voters=["n2", "n3"])
    assert status["primary_node_id"] == "n1"
    with first.connect() as connection:
        connection.execute("INSERT INTO old VALUES (0)")
    machines.kill("n1")
    status = machines.wait_for("n2", lambda now: now["primary_node_id"] in ("n2", "n3"))
    leader = status["primary_node_id"]
    [node] = [one for one in machines.ask("n2", "nodes") if one["name"] == leader]
    assert rows(node["postgresql_port"]) == ROWS + 1
    machines.start("n1")
    machines.wait_for(
        "n2", lambda now: now["status"] == "operational" and now["healthy_nodes"] == 3
    )
    data = second.data if leader == "n2" else foreign
    for home in (machines.ground, *(file.parent for file in machines.config.values())):
        end_all(home, signal.SIGKILL)
    adopt(machines, "z1", data)
    again = machines.wait_operational("z1", 1)
    assert again["epoch"] > status["epoch"]
    [node] = machines.ask("z1", "nodes")
    assert rows(node["postgresql_port"]) == ROWS + 1
