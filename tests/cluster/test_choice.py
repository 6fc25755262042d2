"""How a real proxy spreads, limits and keeps sessions, by its node's file and a reload."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from test_byhand import fetched

from pgherd.proof import layout
from pgherd.proof.herd import LocalHerd
from pgherd.proof.ports import HOST
from pgherd.proof.writers import dsn_of

pytestmark = pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)

DEADLINE_S = 30.0
WAL = "SELECT pg_logical_emit_message(false, 'test', repeat('x', 300000))"


class Reads:
    """The replica listener of one node, and which server answers there."""

    def __init__(self, herd: LocalHerd, name: str) -> None:
        self.herd, self.name = herd, name
        place = herd.places[name]
        self.dsn = dsn_of(
            hosts=[(HOST, place.ports.proxy_replica)],
            user="postgres",
            password=herd.secrets.superuser,
            read_write=False,
        )
        self._names = {str(one.ports.postgres): one.name for one in herd.places.values()}

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn, autocommit=True, connect_timeout=20)

    def server_of(self, one: psycopg.Connection[Any]) -> str:
        found = one.execute("SHOW port").fetchone()
        assert found is not None
        return self._names[found[0]]

    def one_by_one(self, count: int = 6) -> dict[str, int]:
        """Sessions that come and go: how often each server got one."""
        found: Counter[str] = Counter()
        for _ in range(count):
            with self.connect() as one:
                found[self.server_of(one)] += 1
        return dict(found)

    def until(self, expected: dict[str, int]) -> None:
        """Until clients are spread like this."""
        what = f"reads at {expected}"
        self.herd.wait_for(lambda: self.one_by_one() == expected, what, deadline_s=DEADLINE_S)

    def until_refused(self, text: str) -> None:
        def refused() -> bool:
            try:
                self.connect().close()
            except psycopg.OperationalError as error:
                return text in str(error)
            return False

        self.herd.wait_for(refused, text or "a closed door", deadline_s=DEADLINE_S)

    def configure(self, **keys: Any) -> None:
        self.herd.reload_node(self.name, {"proxy": keys})


def leaves(session: psycopg.Connection[Any]) -> bool:
    """Whether a session was told to leave its server."""
    try:
        session.execute("SELECT 1")
    except psycopg.errors.AdminShutdown as error:
        return "is in maintenance" in str(error)
    return False


@pytest.fixture
def reads(herd: LocalHerd) -> Iterator[Reads]:
    """The reads through a replica's node; its herd's files are put back."""
    kept = {name: layout.read_settings(herd.places[name]) for name in herd.data}
    primary = herd.wait_primary()
    try:
        yield Reads(herd, next(name for name in herd.data if name != primary))
    finally:
        for name, settings in kept.items():
            layout.write_settings(herd.places[name], settings)
            herd.reload_node(name, {})
            herd.query(name, "SELECT pg_wal_replay_resume() WHERE pg_is_in_recovery()")


def test_reads_go_where_the_operator_wants_them(herd: LocalHerd, reads: Reads) -> None:
    """Counts or turns; the own zone; a tag; maintenance; the lag; the primary or nobody."""
    primary, near = herd.wait_primary(), reads.name
    (far,) = set(herd.data) - {primary, near}
    herd.wait_for(
        lambda: primary not in reads.one_by_one(2), "reads at replicas alone", deadline_s=DEADLINE_S
    )
    with reads.connect() as held:
        (other,) = {near, far} - {reads.server_of(held)}
        reads.until({other: 6})
        reads.configure(balance="round_robin")
        reads.until({near: 3, far: 3})

    for name, zone in ((near, "a"), (far, "b"), (primary, "a")):
        herd.reload_node(name, {"node": {"zone": zone}})
    reads.until({near: 6})
    reads.configure(prefer_zone=False)
    reads.until({near: 3, far: 3})
    herd.reload_node(near, {"node": {"tags": {"noloadbalance": True}}})
    reads.until({far: 6})
    herd.reload_node(near, {"node": {"tags": {"noloadbalance": False}}})
    reads.until({near: 3, far: 3})
    with reads.connect() as open_one:
        tended = reads.server_of(open_one)
        path, ask = f"/nodes/{tended}/maintenance", herd.ask
        ask(path, method="POST", body={"enabled": True}, timeout_s=15.0)
        herd.wait_for(lambda: leaves(open_one), "57P01 of its session", deadline_s=DEADLINE_S)
        ask(path, method="POST", body={"enabled": False}, timeout_s=15.0)
    reads.until({near: 3, far: 3})
    reads.configure(prefer_zone=True, max_replica_lag="64kB")

    herd.query(near, "SELECT pg_wal_replay_pause()")
    herd.query(primary, WAL)
    reads.until({far: 6})
    herd.query(far, "SELECT pg_wal_replay_pause()")
    herd.query(primary, WAL)
    reads.until({primary: 6})
    listeners = layout.read_settings(herd.places[near])["proxy"]["listeners"]
    alone = [{**one, "fallback": "none"} if one["route"] == "replica" else one for one in listeners]
    reads.configure(listeners=alone, connect_timeout="500ms")
    reads.until_refused("no replica can take a session now")
    herd.query(near, "SELECT pg_wal_replay_resume()")
    reads.until({near: 6})


def test_doors_close_and_proxies_change_without_a_cut(herd: LocalHerd, reads: Reads) -> None:
    """Limits and networks hold after a reload; a session outlives its proxy's successor's start."""
    with reads.connect() as held:
        reads.configure(limits={"user": 1})
        reads.until_refused('user "postgres" has 1 sessions open already')
        reads.configure(limits={"user": 0}, allow=["192.0.2.0/24"])
        barred = f'listener="replica:{herd.places[reads.name].ports.proxy_replica}",result="barred"'

        def counted() -> bool:
            with contextlib.suppress(psycopg.OperationalError):
                reads.connect().close()
            return barred in fetched(herd, reads.name, "/metrics")

        herd.wait_for(counted, "barred clients in /metrics", deadline_s=DEADLINE_S)
        reads.configure(allow=["127.0.0.0/8"], drain_timeout="1m")
        near = reads.server_of(held)
        herd.wait_for(lambda: bool(reads.one_by_one(1)), "an open door", deadline_s=DEADLINE_S)
        before = herd.part_pid(reads.name, "proxy")
        herd.replace_proxy(reads.name)
        leaves, log = f"proxy {before} leaves", herd.places[reads.name].log
        served: Counter[str] = Counter()
        while leaves not in log.read_text() or served.total() < 60:
            served.update(reads.one_by_one(6))
        assert reads.server_of(held) == near
