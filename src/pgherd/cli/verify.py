"""Starting a node and making sure that it works, check by check.

Owns the checks of `init --start` and `join --start`: each is printed with its result; the first
that stays wrong ends the command with exit code 1 and the next command to type. Believes servers
only over fresh connections of its own.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pgherd.cli.client import Api, find_target, here
from pgherd.cli.output import say
from pgherd.cli.place import Place
from pgherd.model.errors import PgherdError
from pgherd.model.ids import NodeId, slot_name

if TYPE_CHECKING:
    import psycopg

    from pgherd.config.settings import Settings

POLL_S = 0.2
CONNECT_TIMEOUT_S = 3
LEAD_TIMEOUT_S = 8.0
"""A proxy without a primary refuses after proxy.connect_timeout."""
LOG_LINES = 5

SERVER_QUERY = """
SELECT pg_is_in_recovery(), (SELECT system_identifier::text FROM pg_control_system()),
    (SELECT timeline_id FROM pg_control_checkpoint()),
    (SELECT slot_name FROM pg_stat_wal_receiver WHERE status = 'streaming')
"""


class NotYet(Exception):
    """A check that does not hold now; it says why."""


class CheckFailed(PgherdError):
    """A check that did not hold in time."""


class Server(msgspec.Struct, frozen=True):
    """What the local server said over a fresh connection."""

    in_recovery: bool
    system_id: str
    timeline: int
    slot: str | None


class Verifier:
    """Runs checks against one node until a deadline."""

    def __init__(self, place: Place, settings: Settings, *, timeout_s: float) -> None:
        self._place = place
        self._settings = settings
        self._deadline = time.monotonic() + timeout_s
        self._child: subprocess.Popen[bytes] | None = None
        self._api = Api(find_target(api_url=None, config=str(place.config)), timeout_s=5.0)
        self.name = settings.node.name

    def start(self) -> None:
        """Start the daemon apart from this terminal; its words go to the log."""
        log = self._place.log
        command = [sys.executable, "-m", "pgherd.cli.main", "start"]
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                [*command, "--config", str(self._place.config)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        say(f"started the daemon (process {self._child.pid}, log {log})")

    def first_node(self) -> None:
        """The checks of `init`."""
        self.check("the API answers", self.api_answers)
        if self._settings.standby_cluster.hosts:
            self.check("it streams from the remote primary", self.streams)
            return
        self.check("this node is the primary", self.is_primary)
        self.check("the server takes a fresh connection", lambda: self.server_answers(False))
        self.check("clients reach it through the proxy", self.proxy_answers)

    def next_node(self) -> None:
        """The checks of `join`."""
        self.check("the API answers", self.api_answers)
        self.check("consensus counts this node", self.is_counted)
        if self._settings.has_server:
            self.check("it streams from the primary", self.streams)
            self.check("the server takes a fresh connection", lambda: self.server_answers(True))
            self.check("it is in the synchronous set", self.is_in_sync_set)
        self.check("clients reach the primary through its proxy", self.proxy_answers)
        self.check("a peer reaches it", self.peer_reaches)

    def check(self, title: str, probe: Callable[[], str]) -> None:
        """Repeat a probe until it holds; CheckFailed when time is up or the daemon has ended."""
        while True:
            try:
                detail = probe()
            except NotYet as not_yet:
                why = str(not_yet)
            except PgherdError as error:
                why = error.message
            else:
                say(f"ok    {title}" + (f": {detail}" if detail else ""))
                return
            ended = self._child is not None and self._child.poll() is not None
            if ended or time.monotonic() > self._deadline:
                self.fail(title, "the daemon has ended" if ended else why)
            time.sleep(POLL_S)

    def fail(self, title: str, why: str) -> None:
        say(f"FAIL  {title}: {why}")
        for text in tail(self._place.log):
            say(f"      {text}")
        raise CheckFailed(
            f"{self.name} was set up, but: {title}: {why}",
            f"look into {self._place.log}, then: pgherd status --config {self._place.config}",
        )

    # the probes

    def api_answers(self) -> str:
        found = self._api.get("/api/v1/health")
        if found["node"] != self.name:
            raise NotYet(f"another node, {found['node']}, answers at this address")
        return f"version {found['version']}"

    def is_primary(self) -> str:
        found = self._api.get("/api/v1/cluster/status")
        if found["primary_node_id"] != self.name or found["status"] == "down":
            raise NotYet("; ".join(found["problems"]) or f"the cluster is {found['status']}")
        return f"epoch {found['epoch']}"

    def is_counted(self) -> str:
        """It votes, or stands by because enough others do."""
        for peer in self._api.get("/raft/peers")["peers"]:
            if peer["node"] != self.name:
                continue
            if peer["suffrage"] in ("learner", "none"):
                raise NotYet(f"it {peer['why']}")
            return f"Raft id {peer['raft_id']}, {peer['why']}"
        raise NotYet("it is no member yet")

    def own(self) -> dict[str, Any]:
        found: dict[str, Any] = self._api.get(f"/api/v1/nodes/{self.name}")
        return found

    def streams(self) -> str:
        node = self.own()
        if node["state"] not in ("streaming", "catching up", "delayed"):
            percent = node["progress_percent"]
            doing = node["doing"] + (f" {percent} %" if percent is not None else "")
            raise NotYet(node["problem"] or doing or f"its state is {node['state']}")
        return f"timeline {node['timeline']}"

    def server_answers(self, is_replica: bool) -> str:
        """System identifier, timeline and slot, from the server itself."""
        status = self._api.get("/api/v1/cluster/status")
        server = self.ask_server()
        if server.in_recovery != is_replica:
            raise NotYet("it is a " + ("standby" if server.in_recovery else "primary"))
        if server.system_id != status["system_id"]:
            raise NotYet(f"system identifier {server.system_id}, not {status['system_id']}")
        if is_replica:
            wanted = slot_name(NodeId(self.name))
            if server.slot != wanted:
                raise NotYet(f"it streams through slot {server.slot}, not {wanted}")
        return f"system identifier {server.system_id}"

    def ask_server(self) -> Server:
        with connect(self._settings) as connection:
            row = connection.execute(SERVER_QUERY).fetchone()
        assert row is not None
        return Server(in_recovery=row[0], system_id=row[1], timeline=row[2], slot=row[3])

    def is_in_sync_set(self) -> str:
        """A member, unless the set is full or the operator does not want this node in it."""
        node, status = self.own(), self._api.get("/api/v1/cluster/status")
        sync = status["synchronous"]
        if status["follows"]:
            return "a standby cluster has none"
        if self.name in sync["voters"]:
            return f"{sync['num_sync']} of {', '.join(sync['voters'])}"
        if node["tags"]["nosync"]:
            return "not wanted (nosync)"
        if not sync["degraded"] and len(sync["voters"]) >= 2 * sync["wanted"]:
            return "not needed, the set is full"
        raise NotYet("it has not been taken in yet")

    def proxy_answers(self) -> str:
        """A connection through the primary's listener ends at a primary."""
        ports = [one.port for one in self._settings.proxy.listeners if one.route == "primary"]
        if not ports:
            return "no listener is configured"
        if self._api.get("/api/v1/cluster/status")["follows"]:
            return "not before the standby cluster is promoted"
        pg = self._settings.postgresql
        if not self._settings.has_server or pg.superuser.password is None:
            return self.proxy_leads(ports[0])
        import psycopg

        try:
            with connect(self._settings, port=ports[0]) as connection:
                row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
        except psycopg.Error as error:
            raise NotYet(one_line(error)) from error
        if row is None or row[0]:
            raise NotYet("it leads to a standby")
        return f"port {ports[0]}"

    def proxy_leads(self, port: int) -> str:
        """The same on a node that has no password of the database: a server asks for one."""
        from pgherd.wire.answer import CANNOT_CONNECT_NOW
        from pgherd.wire.query import startup

        host = self._settings.node.address.advertised("proxy")
        try:
            with socket.create_connection((host, port), timeout=LEAD_TIMEOUT_S) as probe:
                probe.sendall(startup({"user": "pgherd", "database": "postgres"}))
                answer = probe.recv(4096)
        except OSError as error:
            raise NotYet(one_line(error)) from error
        if not answer or CANNOT_CONNECT_NOW.encode() in answer:
            raise NotYet("it finds no primary")
        return f"port {port}"

    def peer_reaches(self) -> str:
        """Every channel of this node, tried from another member."""
        if not self._place.secret("admin.token").exists():
            return "not checked, this node has no token for other nodes"
        status = self._api.get("/api/v1/cluster/status")
        nodes = self._api.get("/api/v1/nodes")["nodes"]
        others = [one for one in nodes if one["name"] != self.name and one["is_healthy"]]
        others.sort(key=lambda one: one["name"] != status["primary_node_id"])
        if not others:
            raise NotYet("no other node is healthy")
        peer = others[0]
        url = f"https://{bracketed(peer['host'])}:{peer['api_port']}"
        target = find_target(api_url=url, config=str(self._place.config))
        found = Api(target, timeout_s=10.0).get(f"/api/v1/nodes/{self.name}/health")
        closed = [one for one in found["channels"] if not one["is_reachable"]]
        if closed:
            told = ", ".join(
                f"{one['channel']} {one['address']}: {one['problem']}" for one in closed
            )
            raise NotYet(f"{peer['name']} cannot reach {told}")
        return f"tried from {peer['name']}"


def connect(settings: Settings, *, port: int | None = None) -> psycopg.Connection[Any]:
    """As superuser: through the server's own socket, or with its password through a proxy port."""
    import psycopg

    postgresql = settings.postgresql
    target: dict[str, Any] = {
        "host": str(postgresql.socket_directory()),
        "port": postgresql.port,
        "user": postgresql.superuser.username,
        "dbname": postgresql.database,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "options": "-c search_path=pg_catalog -c statement_timeout=10s",
        "application_name": "pgherd-verify",
        "client_encoding": "UTF8",
    }
    if port is not None:
        target |= {"host": here(settings.node.address.bound("proxy")), "port": port}
        secret = postgresql.superuser.password
        if secret is not None:
            target["password"] = secret.reveal(os.environ)
    try:
        return psycopg.connect(**target, autocommit=True)
    except psycopg.OperationalError as error:
        raise NotYet(one_line(error)) from error


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def tail(log: Path) -> list[str]:
    try:
        return log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    except OSError:
        return []
