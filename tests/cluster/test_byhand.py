"""A server that somebody promotes past pgherd, and one whose data are of another cluster."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psycopg
import pytest
from checkups import until_red
from test_forward import tag

from pgherd.proof import processes
from pgherd.proof.herd import LocalHerd
from pgherd.proof.ports import HOST
from pgherd.proof.trials import judge
from pgherd.proof.writers import Writers, create_table

SLOW_TO_STOP = "before.disown=sleep(2000)"
"""So that the moment before the server is stopped can be looked at from outside."""


class Person:
    """Somebody with a shell on a node, as PostgreSQL's own user."""

    def __init__(self, herd: LocalHerd, name: str, binaries: Path) -> None:
        self.data, self._binaries = herd.places[name].data, binaries
        self._ports, self._herd, self._name = herd.places[name].ports, herd, name

    def run(self, program: str, *words: str) -> None:
        owner = self.data.stat() if self.data.exists() else self.data.parent.stat()
        subprocess.run(
            [str(self._binaries / program), "-D", str(self.data), *words],
            check=True,
            user=owner.st_uid,
            group=owner.st_gid,
            extra_groups=[],
            cwd="/",
            env={"PATH": os.environ["PATH"]},
            stdout=subprocess.DEVNULL,
        )

    def promote(self) -> None:
        self.run("pg_ctl", "promote", "-w")

    def start(self) -> None:
        place = self._herd.places[self._name]
        where = f"-p {self._ports.postgres} -k {place.socket_directory} -h {HOST}"
        log = f"{self.data.parent}/by-hand.log"

        def started() -> bool:
            with contextlib.suppress(subprocess.CalledProcessError):  # it takes a while
                self.run("pg_ctl", "start", "-w", "-o", where, "-l", log)
                return True
            return False

        self._herd.wait_for(started, "server by hand", deadline_s=20)

    def standby_again(self) -> None:
        """For a moment: what pg_control says of the last start is not that it was a primary."""
        signal = self.data / "standby.signal"
        signal.touch()
        os.chown(signal, self.data.stat().st_uid, self.data.stat().st_gid)
        self.start()
        self.run("pg_ctl", "stop", "-m", "fast")

    def write(self) -> None:
        """Rows that no standby has to acknowledge."""
        with psycopg.connect(self._herd.dsn_node(self._name), autocommit=True) as connection:
            connection.execute("SET synchronous_commit = local")
            connection.execute("INSERT INTO by_hand SELECT generate_series(1, 1000)")


def fetched(herd: LocalHerd, name: str, path: str) -> str:
    """What a node answers without a token, whatever the status code is."""
    url = f"http://{HOST}:{herd.places[name].ports.api}{path}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def is_flagged(herd: LocalHerd, name: str, said: str) -> bool:
    """Whether a node tells of split brain wherever it can be asked."""
    problems = herd.ask("/cluster/status", name=name)["problems"]
    return (
        '"split_brain":true' in fetched(herd, name, "/health")
        and "pgherd_split_brain 1.0" in fetched(herd, name, "/metrics")
        and any(p.startswith("split brain") and said in p for p in problems)
        and herd.ask("/explain", name=name)["problems"] == problems
    )


def led_to(herd: LocalHerd, name: str) -> int:
    """The port of the server behind a node's proxy for writes."""
    port = herd.places[name].ports.proxy_primary
    dsn = herd.dsn_proxy().replace(herd.dsn_proxy().split("port=")[1].split()[0], str(port))
    with psycopg.connect(dsn) as connection:
        [row] = connection.execute("SELECT inet_server_port()").fetchall()
    return int(row[0])


def events(herd: LocalHerd, name: str) -> str:
    [file] = herd.places[name].directory.rglob("events.jsonl")
    return file.read_text()


@pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)
@pytest.mark.fault(68)
def test_split_brain_seen_is_split_brain_stopped(
    stable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica is promoted by hand under load; then its data are replaced by another cluster's.

    Each time everybody says so, nobody is led to it, its server stops or is not started, and the
    herd is whole and unmarked again.
    """
    monkeypatch.setenv("PGHERD_FAILPOINT", SLOW_TO_STOP)
    with LocalHerd(3, postgres_bin=stable.postgres_bin) as herd:
        herd.start()
        herd.wait_stable(90)
        primary = herd.wait_primary()
        victim, other = (name for name in herd.nodes if name != primary)
        person, right = Person(herd, victim, stable.postgres_bin), herd.places[primary].ports
        create_tables(herd)
        writers = Writers(herd.dsn_proxy(), count=2)
        writers.start()
        try:
            person.promote()
            person.write()
            for name in herd.nodes:
                must_flag(herd, name, f"the server of {victim}")
                assert led_to(herd, name) == right.postgres
            back_to_normal(herd, victim, said="has written since")
            herd.wait_for(
                lambda: "split_brain.over" in events(herd, other), "word of its end", deadline_s=10
            )
        finally:
            history = writers.stop()
        verdict = judge(herd, history)
        assert verdict.clean, str(verdict)
        replace_data(herd, person, victim)


@pytest.mark.fault(21, 68)
def test_promoted_while_its_agent_is_away(
    herd: LocalHerd, stable: Any, request: pytest.FixtureRequest
) -> None:
    """Stopped again before anybody saw it, on a timeline number that the next reign has too.

    On 18 it has been a standby once more since then: only where that timeline begins tells.
    """
    primary = herd.wait_primary()
    victim = next(name for name in herd.nodes if name != primary)
    person = Person(herd, victim, stable.postgres_bin)
    create_tables(herd)
    writers = Writers(herd.dsn_proxy(), count=2)
    writers.start()
    try:
        herd.kill_node(victim)
        person.start()
        person.promote()
        person.write()
        person.run("pg_ctl", "stop", "-m", "fast")
        said = "while this agent was away"
        if "wheel" in request.node.name:
            person.standby_again()
            said = "is of no term"
        before = herd.status()["epoch"]
        herd.kill_postmaster(primary)
        herd.silent.add(victim)
        herd.wait_for(lambda: herd.status()["epoch"] > before, "next term", deadline_s=30)
        herd.silent.clear()
        herd.restart_node(victim)
        back_to_normal(herd, victim, said=said)
    finally:
        history = writers.stop()
    verdict = judge(herd, history)
    assert verdict.clean, str(verdict)


def create_tables(herd: LocalHerd) -> None:
    create_table(herd.dsn_direct())
    herd.query(herd.wait_primary(), "CREATE TABLE by_hand (n int)")


def must_flag(herd: LocalHerd, name: str, said: str) -> None:
    herd.wait_for(lambda: is_flagged(herd, name, said), f"flag on {name}", deadline_s=30)


def back_to_normal(herd: LocalHerd, victim: str, *, said: str) -> None:
    """Whole again, nothing is flagged, the rows by hand are in the kept directory only."""
    herd.wait_for(lambda: said in disowned(herd, victim), "mark", deadline_s=30)
    herd.wait_stable(90)
    for name in herd.nodes:
        wait_unflagged(herd, name)
        assert herd.query(name, "SELECT count(*) FROM by_hand") == [(0,)]
    assert list(herd.places[victim].data.parent.glob("data.old-*"))


def wait_unflagged(herd: LocalHerd, name: str) -> None:
    herd.wait_for(
        lambda: '"split_brain":false' in fetched(herd, name, "/health"),
        f"no flag on {name}",
        deadline_s=10,
    )


def disowned(herd: LocalHerd, name: str) -> str:
    """What a node's log says when it marks its data directory."""
    lines = herd.places[name].log.read_text(errors="replace").splitlines()
    return "\n".join(line for line in lines if "server.disowned" in line)


def replace_data(herd: LocalHerd, person: Person, victim: str) -> None:
    """While the node is stopped; its agent leaves that alone until it is moved away."""
    herd.kill_node(victim)
    shutil.rmtree(person.data)
    person.run("initdb", "-A", "trust", "-U", "postgres")
    herd.restart_node(victim)
    for name in herd.nodes:
        must_flag(herd, name, "belongs to system identifier")
    until_red(herd, herd.wait_primary(), ("herd.split_brain", ""))
    assert not (person.data / "postmaster.pid").exists()
    shutil.rmtree(person.data)
    herd.wait_stable(90)
    wait_unflagged(herd, victim)


def supervisor_of(herd: LocalHerd, name: str) -> int:
    """The process that starts a node's agent anew."""
    agent = herd.part_pid(name, "agent")
    assert agent is not None
    return processes.scan()[agent].parent


@pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)
def test_who_follows_a_leader_that_leads_again_is_not_accused(herd: LocalHerd) -> None:
    """Its walreceiver goes on without an agent; the next agent sees a timeline of no known term."""
    primary = herd.wait_primary()
    other, deaf = (name for name in herd.nodes if name != primary)
    inode = herd.places[deaf].data.stat().st_ino
    term, before = herd.status()["epoch"], disowned(herd, deaf)
    tag(herd, other, nofailover=True)
    supervisor = [supervisor_of(herd, deaf)]
    processes.send(supervisor, signal.SIGSTOP)
    herd.kill_agent(deaf)
    herd.silent.add(deaf)
    try:
        herd.kill_postmaster(primary)
        herd.wait_for(
            lambda: herd.status()["epoch"] > term and herd.primary() == primary,
            f"second reign of {primary}",
            deadline_s=60,
        )
        [(timeline,)] = herd.query(primary, "SELECT timeline_id FROM pg_control_checkpoint()")
        herd.wait_for(
            lambda: (
                herd.query(deaf, "SELECT received_tli FROM pg_stat_wal_receiver") == [(timeline,)]
            ),
            f"{deaf} on timeline {timeline}",
            deadline_s=30,
        )
    finally:
        processes.send(supervisor, signal.SIGCONT)
        herd.silent.discard(deaf)
    herd.wait_stable()
    tag(herd, other, nofailover=False)
    assert disowned(herd, deaf) == before
    assert herd.places[deaf].data.stat().st_ino == inode, "it was copied anew"
