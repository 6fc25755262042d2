"""Clients that do not notice a change of primary: pgbench and sessions with state, real servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from clients import connect, pgbench

from pgherd.proof import layout
from pgherd.proof.client import NoAnswer
from pgherd.proof.herd import LocalHerd
from pgherd.proof.trials import judge
from pgherd.proof.writers import Writers, create_table

pytestmark = [
    pytest.mark.parametrize("stable", ["wheel-18"], indirect=True),
    pytest.mark.xdist_group("hold"),
]

BENCH_S = 14
CLIENTS = 8
HOLD_S = 2.0
BACK_S = 0.5
WATCH_S = 0.1
SLEEP = "SELECT pg_sleep(60)"


@pytest.fixture(scope="module")
def held(stable: Any) -> Iterator[LocalHerd]:
    """A herd whose proxies end the protocol of their clients' sessions."""
    with LocalHerd(3, postgres_bin=stable.postgres_bin) as herd:
        for place in herd.places.values():
            layout.end_sessions_at_proxy(place, hold_timeout=f"{HOLD_S:g}s", connect_timeout="30s")
        herd.start()
        herd.wait_stable(90)
        yield herd


def one(session: psycopg.Connection[Any], statement: str, **more: Any) -> Any:
    row = session.execute(statement.encode(), **more).fetchone()
    assert row is not None
    return row[0]


def server(session: psycopg.Connection[Any]) -> tuple[int, int]:
    """Which server process a session is at: its server's port and its id."""
    row = session.execute("SELECT inet_server_port(), pg_backend_pid()").fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def switch(herd: LocalHerd) -> None:
    before = herd.wait_primary()
    herd.switchover()
    herd.wait_primary(other_than=before)


@contextmanager
def watching(herd: LocalHerd, name: str) -> Iterator[set[str]]:
    """Which nodes' proxies hold clients meanwhile, as one node's API tells of all of them."""
    found: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_S):
            try:
                told = herd.ask("/proxies", name=name)["proxies"]
            except NoAnswer:
                continue
            found.update(one["node"] for one in told if one["held"])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def test_switchovers_fail_no_transaction(held: LocalHerd) -> None:
    """Two in a row under load; state goes along; what has none elsewhere is told so.

    Who is held is seen at a node whose own proxy holds nobody.
    """
    held.wait_stable(60)
    initial = pgbench(held, 0, "--initialize", "--quiet")
    assert initial.wait(60) == 0, initial.communicate()[0]
    words = ["--client", str(CLIENTS), "--rate", "80", "--time", str(BENCH_S), "--protocol"]
    benches = [pgbench(held, 0, *words, "simple"), pgbench(held, 1, *words, "prepared")]

    idle, temporary, open_one = connect(held, 1), connect(held, 0), connect(held, 2)
    idle.execute("SET TimeZone = 'Asia/Tokyo'")
    idle.execute("SET application_name = 'it''s \\ me'")
    ask = "SELECT count(*) FROM pg_prepared_statements"
    assert one(idle, ask, prepare=True) == 1
    at_first = server(idle)
    temporary.execute("CREATE TEMP TABLE mine (i int)")
    time.sleep(1)
    switch(held)
    assert one(idle, ask, prepare=True) == 1
    assert one(idle, "SHOW TimeZone") == "Asia/Tokyo"
    assert one(idle, "SHOW application_name") == "it's \\ me"
    at_second = server(idle)
    assert at_second[0] != at_first[0]
    with pytest.raises(psycopg.errors.AdminShutdown):
        temporary.execute("SELECT 1")

    held.wait_stable(60)
    open_one.execute("BEGIN")
    open_one.execute("SELECT 1")
    began = time.monotonic()
    first, second, third = held.nodes
    with watching(held, third) as holding:
        switch(held)
    assert holding & {first, second}
    assert time.monotonic() - began > HOLD_S
    with pytest.raises(psycopg.errors.AdminShutdown):
        open_one.execute("SELECT 1")
    assert server(idle)[0] != at_second[0]

    for bench in benches:
        said, _ = bench.communicate(timeout=BENCH_S + 40)
        assert bench.returncode == 0, said
        assert "number of failed transactions: 0 " in said, said
        assert "error" not in said, said


def test_a_killed_primary_is_noticed_by_those_that_run_something(held: LocalHerd) -> None:
    """Idle sessions go on; a running statement is unknown; nothing acknowledged is lost."""
    held.wait_stable(60)
    create_table(held.dsn_proxy())
    idle, busy = connect(held, 0), connect(held, 2)
    before = server(idle)
    told: list[str] = []
    with Writers(held.dsn_proxies(), count=4) as writers:
        writers.start()
        sleeping = threading.Thread(target=lambda: told.append(outcome(busy, SLEEP)))
        sleeping.start()
        primary = held.wait_primary()
        asleep = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        held.wait_for(lambda: held.query(primary, asleep), "a running statement", deadline_s=20)
        held.kill_postmaster(primary)
        sleeping.join(60)
        assert told == ["08007"]
        time.sleep(1)
        held.wait_for(lambda: writers.idle_s() < BACK_S, "write", deadline_s=60)
        assert server(idle) != before
        held.wait_stable(90)
        time.sleep(1)
        verdict = judge(held, writers.stop())
    assert verdict.clean, str(verdict)
    assert verdict.acknowledged > 0


def outcome(session: psycopg.Connection[Any], statement: str) -> str:
    """The SQLSTATE of a statement; "" for success."""
    try:
        session.execute(statement.encode())
    except psycopg.Error as error:
        return error.sqlstate or str(error)
    return ""
