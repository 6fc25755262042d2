"""What a herd says of itself: its APIs asked over HTTP, its servers over SQL, its logs read.

Owns the questions, the waiting for answers, and where to connect. It learns the state of the
cluster from the API and believes in redundancy only when PostgreSQL itself says so. Leaves starting
and breaking to `herd`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from pgherd.model.errors import PgherdError
from pgherd.model.ids import CLOSED_NAMES
from pgherd.pki.files import write_private
from pgherd.proof.client import NoAnswer, ask
from pgherd.proof.layout import Place, Secrets
from pgherd.proof.writers import dsn_of

T = TypeVar("T")

POLL_S = 0.1
LOG_TAIL_LINES = 25

REDUNDANCY = """
SELECT pg_is_in_recovery(), current_setting('synchronous_standby_names'),
    (SELECT count(*) FROM pg_stat_replication
        WHERE state = 'streaming' AND application_name LIKE '%@%'),
    (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))
"""


class HerdError(PgherdError):
    """The herd did not reach what was waited for; the message carries the ends of the logs."""


def set_aside(names: tuple[str, ...], others: set[str]) -> list[str]:
    """Names without some of them, in their order."""
    return [name for name in names if name not in others]


class HerdView:
    """The nodes of a herd as they are seen from outside. silent: nodes that are not to be asked."""

    def __init__(self, directory: Path, secrets: Secrets) -> None:
        self.directory = directory
        self.secrets = secrets
        self.places: dict[str, Place] = {}
        self.silent: set[str] = set()
        self.witnesses: set[str] = set()
        self.proxies: set[str] = set()
        self.removed: set[str] = set()

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of all nodes."""
        return tuple(self.places)

    @property
    def data(self) -> tuple[str, ...]:
        """The names of the members that hold data."""
        return tuple(set_aside(self.nodes, self.witnesses | self.proxies | self.removed))

    def ask(self, path: str, *, name: str | None = None, **more: Any) -> Any:
        """Ask one node's API, or the first that answers."""
        trouble = NoAnswer(0, "no node runs")
        for one in [name] if name else set_aside(self.nodes, self.silent | self.removed):
            try:
                place = self.places[one]
                return ask(
                    place.host, place.ports.api, f"/api/v1{path}", token=self.secrets.token, **more
                )
            except NoAnswer as error:
                trouble = error
        raise trouble

    def trouble(self) -> str:
        """What makes further waiting useless; the view itself knows nothing."""
        return ""

    def status(self) -> dict[str, Any]:
        """`/cluster/status` of the first node that answers."""
        found: dict[str, Any] = self.ask("/cluster/status")
        return found

    def node_states(self) -> list[dict[str, Any]]:
        """`/nodes` of the first node that answers."""
        found = self.ask("/nodes")
        listed: list[dict[str, Any]] = found["nodes"] if isinstance(found, dict) else found
        return listed

    def primary(self) -> str | None:
        """The primary's name as the API has it."""
        try:
            found = self.status().get("primary_node_id")
        except NoAnswer:
            return None
        return str(found) if found else None

    def is_redundant(self) -> bool:
        """Whether there is one open primary, and every other node streams and counts for it.

        The API says who; PostgreSQL on that node says the rest.
        """
        try:
            status = self.status()
            primary = status.get("primary_node_id")
            if not primary or status.get("failover_state") != "normal":
                return False
            agreed = status.get("synchronous") or {}
            if not isinstance(agreed, dict) or agreed.get("degraded") is not False:
                return False  # PostgreSQL may be ahead of the ledger, which decides a failover
            [row] = self.query(str(primary), REDUNDANCY)
        except (NoAnswer, psycopg.Error):
            return False
        recovering, names, streaming, counted = row
        others = len(self.data) - 1
        voters = 0 if agreed["mode"] == "async" else min(others, 2 * (len(self.data) // 2))
        return (
            not recovering
            and str(names) != CLOSED_NAMES
            and int(str(streaming)) >= others
            and int(str(counted)) >= voters
        )

    def wait_stable(self, deadline_s: float = 60.0) -> float:
        """Wait for full redundancy; how long it took."""
        began = time.monotonic()
        self.wait_for(self.is_redundant, "full redundancy", deadline_s=deadline_s)
        return time.monotonic() - began

    def wait_primary(self, *, other_than: str | None = None, deadline_s: float = 60.0) -> str:
        """Wait until the API names a primary, another one than given; its name."""

        def found() -> str | None:
            primary = self.primary()
            return primary if primary != other_than else None

        name = self.wait_for(found, f"primary other than {other_than}", deadline_s=deadline_s)
        assert name is not None
        return name

    def wait_for(self, condition: Callable[[], T], what: str, *, deadline_s: float) -> T:
        """Wait for a condition and return its value; on the deadline tell what the logs say."""
        until = time.monotonic() + deadline_s
        while True:
            trouble = ""
            try:
                value = condition()
                if value:
                    return value
            except (NoAnswer, psycopg.Error) as error:
                trouble = str(error)
            if self.trouble():
                raise HerdError(f"no {what}: {self.trouble()}\n{self.tell()}")
            if time.monotonic() > until:
                raise HerdError(f"no {what} within {deadline_s:.0f} s {trouble}\n{self.tell()}")
            time.sleep(POLL_S)

    def switchover(self, to: str | None = None) -> None:
        """Ask for a planned change of primary."""
        body = {"candidate": to} if to else {}
        self.ask("/cluster/switchover", method="POST", body=body, timeout_s=30.0)

    def query(
        self, name: str, statement: str, *, timeout_ms: int = 5000
    ) -> list[tuple[object, ...]]:
        """Ask one node's PostgreSQL directly; the rows of the last statement, if it has any."""
        with psycopg.connect(self.dsn_node(name), autocommit=True) as connection:
            connection.execute(f"SET statement_timeout = {timeout_ms:d}".encode())
            cursor = connection.execute(statement.encode())
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    # Where to connect.

    def dsn_direct(self) -> str:
        """All servers in one string; libpq finds the primary."""
        return self._dsn([self.server_of(name) for name in self.data])

    def dsn_proxy(self) -> str:
        """All proxies' primary listeners in one string; any of them leads to the primary."""
        return self._dsn([self.proxy_of(name) for name in self.data], read_write=False)

    def dsn_proxies(self) -> list[str]:
        """The primary listener of every proxy, each in a string of its own."""
        return [self._dsn([self.proxy_of(name)], read_write=False) for name in self.data]

    def dsn_node(self, name: str) -> str:
        """One server, whatever its role."""
        return self._dsn([self.server_of(name)], read_write=False)

    def server_of(self, name: str) -> tuple[str, int]:
        """Where a node's PostgreSQL listens."""
        return self.places[name].host, self.places[name].ports.postgres

    def proxy_of(self, name: str) -> tuple[str, int]:
        """Where a node's proxy takes connections for the primary."""
        return self.places[name].host, self.places[name].ports.proxy_primary

    def psql_line(self, program: str = "psql") -> str:
        """What a person types to get to the primary through the proxies, without a password."""
        file = self.directory / "pgpass"
        write_private(file, f"*:*:*:postgres:{self.secrets.superuser}\n".encode())
        ports = ",".join(str(place.ports.proxy_primary) for place in self.places.values())
        hosts = ",".join(place.host for place in self.places.values())
        target = f"host={hosts} port={ports} user=postgres dbname=postgres"
        return f'PGPASSFILE={file} {program} "{target}"'

    def tell(self) -> str:
        """The state as far as it can be seen, and the ends of all logs."""
        try:
            state = json.dumps([self.status(), *self.node_states()], indent=1)
        except (NoAnswer, KeyError) as error:
            state = f"API: {error}"
        ends = [state]
        for place in self.places.values():
            lines = place.log.read_text(errors="replace").splitlines() if place.log.exists() else []
            ends += [f"--- {place.name} ({place.log})", *lines[-LOG_TAIL_LINES:]]
        return "\n".join(ends)

    def _dsn(self, hosts: list[tuple[str, int]], *, read_write: bool = True) -> str:
        return dsn_of(
            hosts=hosts,
            user="postgres",
            password=self.secrets.superuser,
            read_write=read_write,
        )
