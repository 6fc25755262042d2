"""A herd of three nodes, each of which is a Patroni, an etcd and a HAProxy on loopback.

It is started, asked, broken and stopped as `LocalHerd` is, so that the same trials and the same
writers measure both. Owns what "killed", "redundant" and "switched over" mean there: all processes
of a node, etcd and HAProxy included; the leader's word and PostgreSQL's, and every HAProxy that
leads to the leader alone; a request to Patroni's REST API. Leaves the files to `patroni_files`.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import subprocess
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from lib import patroni_files as files
from lib.patroni_files import Variant
from pgherd.pki.files import write_private
from pgherd.proof import layout, processes
from pgherd.proof.asking import LOG_TAIL_LINES
from pgherd.proof.client import NoAnswer, ask
from pgherd.proof.herd import LocalHerd
from pgherd.proof.processes import Usage

ETCD_DEADLINE_S = 30.0
SWITCHOVER_DEADLINE_S = 60.0
NODE = """trap 'trap - TERM; kill 0' TERM
{etcd} >>etcd.log 2>&1 &
while [ ! -e go ]; do sleep 0.05; done
{patroni} >>patroni.log 2>&1 &
{haproxy} >>haproxy.log 2>&1 &
wait
"""
"""A node is a session: a shell and what it started. It waits for nobody once the herd has begun."""
LOGS = ("patroni.log", "etcd.log", "haproxy.log")
REDUNDANCY = """
SELECT pg_is_in_recovery(),
    (SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'),
    (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))
"""


class PatroniHerd(LocalHerd):
    """Three nodes of a variant. patroni: the program."""

    def __init__(self, variant: Variant, *, patroni: Path, postgres_bin: Path) -> None:
        self._variant = variant
        self._patroni = patroni
        self._user = files.postgres_user()
        super().__init__(3, postgres_bin=postgres_bin)

    # Starting.

    def start(self) -> None:
        """Start every node that does not run; Patroni when etcd answers.

        A Patroni that finds no etcd sleeps for five seconds, which says nothing about either.
        """
        super().start()
        for place in self.places.values():
            self.wait_for(
                partial(self._etcd_answers, place),
                f"etcd on {place.name}",
                deadline_s=ETCD_DEADLINE_S,
            )
        for place in self.places.values():
            (place.directory / "go").touch()

    def start_node(self, name: str) -> None:
        """Start one node's three programs in a session of their own."""
        assert name not in self._running, f"{name} runs"
        place = self.places[name]
        script = NODE.format(
            etcd=shlex.join(files.etcd_words(place, list(self.places.values()))),
            patroni=shlex.join([str(self._patroni), str(place.directory / "patroni.yml")]),
            haproxy=shlex.join(
                [files.program("haproxy", "haproxy"), "-db", "-f", str(_haproxy_file(place))]
            ),
        )
        keeper = shutil.which("setpriv")
        guard = [keeper, "--pdeathsig", "TERM"] if keeper else []
        self._running[name] = subprocess.Popen(
            [*guard, "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            cwd=place.directory,
            start_new_session=True,
            **files.as_user(self._user),
        )

    def _write(self, *, user: str, bin_dir: str, overrides: dict[str, Any]) -> None:
        """The files of every node, in the hands of who runs it."""
        herd = list(self.places.values())
        for place in herd:
            values = files.patroni_yaml(place, herd, self._variant, self.secrets, bin_dir)
            write_private(place.directory / "patroni.yml", json.dumps(values, indent=1).encode())
            _haproxy_file(place).write_text(files.haproxy_cfg(place, herd, self._variant))
            if os.geteuid() == 0:
                shutil.chown(place.directory, user)
                shutil.chown(place.directory / "patroni.yml", user)

    def _etcd_answers(self, place: layout.Place) -> bool:
        found = ask(place.host, files.etcd_port(place.ports), "/health")
        return str(found.get("health")) == "true"

    # What it says of itself.

    def members(self) -> list[dict[str, Any]]:
        """Patroni's own list, from the first node that answers."""
        trouble = NoAnswer(0, "no node runs")
        for place in self.places.values():
            try:
                found = ask(place.host, place.ports.api, "/cluster")
                listed: list[dict[str, Any]] = found["members"]
                return listed
            except NoAnswer as error:
                trouble = error
        raise trouble

    def primary(self) -> str | None:
        """The holder of the leader's key."""
        try:
            members = self.members()
        except NoAnswer:
            return None
        return next((str(one["name"]) for one in members if one["role"] == "leader"), None)

    def is_redundant(self) -> bool:
        """Whether one leads, all others stream from it, and every HAProxy leads to it alone."""
        try:
            members = self.members()
            leads = [one["name"] for one in members if one["role"] == "leader"]
            others = [one for one in members if one["role"] != "leader"]
            if len(leads) != 1 or len(others) != len(self.places) - 1:
                return False
            [row] = self.query(leads[0], REDUNDANCY)
            ways = [self._led_to(place) for place in self.places.values()]
        except (NoAnswer, psycopg.Error, OSError):
            return False
        recovering, streaming, waited_for = row
        synchronous = any(one["role"] == "sync_standby" for one in others)
        return (
            not recovering
            and all(one["state"] == "streaming" for one in others)
            and int(str(streaming)) >= len(others)
            and (not self._variant.synchronous or (synchronous and bool(waited_for)))
            and all(way == leads for way in ways)
        )

    def _led_to(self, place: layout.Place) -> list[str]:
        """The servers that a node's HAProxy would send a client to."""
        url = f"http://{place.host}:{files.stats_port(place.ports)}/;csv"
        with urllib.request.urlopen(url, timeout=2.0) as answer:
            lines = answer.read().decode().lstrip("# ").splitlines()
        rows = [row for row in csv.DictReader(lines) if row["pxname"] == "primary"]
        servers = [row for row in rows if row["svname"] not in ("FRONTEND", "BACKEND")]
        return [row["svname"] for row in servers if row["status"].startswith("UP")]

    def switchover(self, to: str | None = None) -> None:
        """Ask the leader for a planned change; the answer comes when it is done."""
        leader = self.wait_primary()
        place = self.places[leader]
        body = {"leader": leader, **({"candidate": to} if to else {})}
        request = urllib.request.Request(
            f"http://{place.host}:{place.ports.api}/switchover", json.dumps(body).encode()
        )
        try:
            urllib.request.urlopen(request, timeout=SWITCHOVER_DEADLINE_S).read()
        except urllib.error.HTTPError as error:
            raise NoAnswer(error.code, error.read().decode(errors="replace")) from error

    def usage(self, name: str) -> Usage:
        """What Patroni, etcd and HAProxy cost; the shell that holds them together is ours."""
        return processes.usage(self.parts(name))

    def parts(self, name: str) -> list[processes.Process]:
        """The processes that count."""
        found = self._processes_of(name).values()
        return [one for one in found if not one.is_postgres and one.name not in ("sh", "sleep")]

    def tell(self) -> str:
        """The members as Patroni has them, and the ends of all logs."""
        try:
            ends = [json.dumps(self.members(), indent=1)]
        except NoAnswer as error:
            ends = [f"Patroni: {error}"]
        for place in self.places.values():
            for log in (place.directory / name for name in LOGS):
                lines = log.read_text(errors="replace").splitlines() if log.exists() else []
                ends += [f"--- {place.name} ({log})", *lines[-LOG_TAIL_LINES:]]
        return "\n".join(ends)


def _haproxy_file(place: layout.Place) -> Path:
    return place.directory / "haproxy.cfg"
