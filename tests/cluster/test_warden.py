"""An agent stands still while its PostgreSQL is well and writes alone: its lease ends it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from pgherd.proof.herd import LocalHerd
from pgherd.proof.processes import send

TTL_S = 5.0
EVERY_S = 0.05
TIMEOUT_S = 1.0
ALONE_S = TTL_S + 2.0
"""For how long the agent stands still: its lease is over, and another one leads in mode async."""

CREATE = "CREATE TABLE IF NOT EXISTS told (node text, number bigint, PRIMARY KEY (node, number))"


class Prober(threading.Thread):
    """Commits a row every 50 ms directly on one node, and keeps when each was acknowledged."""

    def __init__(self, dsn: str, name: str) -> None:
        super().__init__(daemon=True)
        self._dsn = f"{dsn} connect_timeout=1"
        self._name = name
        self._end = threading.Event()
        self.replies: list[tuple[float, int]] = []

    def run(self) -> None:
        number = int(time.time() * 1000)
        while not self._end.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True) as session:
                    session.execute("SET statement_timeout = 0")
                    while not self._end.wait(EVERY_S):
                        number += 1
                        session.execute("INSERT INTO told VALUES (%s, %s)", (self._name, number))
                        self.replies.append((time.monotonic(), number))
            except psycopg.Error:
                self._end.wait(EVERY_S)

    def end(self) -> None:
        self._end.set()

    def last(self) -> float:
        return self.replies[-1][0]

    def first_after(self, when: float) -> float | None:
        return next((at for at, _ in self.replies if at > when), None)


@contextmanager
def probers(herd: LocalHerd) -> Iterator[dict[str, Prober]]:
    """One for each data member."""
    found = {name: Prober(herd.dsn_node(name), name) for name in herd.data}
    for each in found.values():
        each.start()
    try:
        yield found
    finally:
        for each in found.values():
            each.end()


@pytest.fixture
def alone() -> Iterator[LocalHerd]:
    """Two data members and a witness in mode async, with the shortest lease."""
    overrides = {"failover": {"lease_ttl": f"{TTL_S:g}s"}, "replication": {"mode": "async"}}
    herd = LocalHerd(3, witnesses=1, overrides=overrides)
    try:
        herd.start()
        herd.wait_stable(90)
        herd.query(herd.wait_primary(), CREATE)
        yield herd
    finally:
        herd.stop(graceful=False)
        herd.remove()


def stop_agent(herd: LocalHerd, name: str) -> int:
    """Its agent stands still from now on; its PostgreSQL is well."""
    pid = herd.part_pid(name, "agent")
    assert pid is not None
    send([pid], signal.SIGSTOP)
    return pid


def test_an_agent_stands_still(alone: LocalHerd) -> None:
    """Async: nothing is acknowledged there once another one leads, and it returns as a standby.

    Degraded: nothing is acknowledged after its lease, and it writes again when its agent goes on.
    """
    herd = alone
    old = herd.wait_primary()
    [other] = set(herd.data) - {old}
    with probers(herd) as told:
        herd.wait_for(lambda: len(told[old].replies) > 20, "commits", deadline_s=20)
        agent, stopped_at = stop_agent(herd, old), time.monotonic()
        herd.wait_for(
            lambda: told[other].first_after(stopped_at), "a new primary's commit", deadline_s=30
        )
        first = told[other].first_after(stopped_at)
        assert first is not None
        time.sleep(1.0)
        last = told[old].last()
        print(
            f"async: last acknowledged {last - stopped_at:.2f} s after the stop,"
            f" first of the new primary {first - stopped_at:.2f} s"
        )
        assert stopped_at < last < first
        assert last - stopped_at < TTL_S
        send([agent], signal.SIGCONT)
        herd.wait_for(herd.is_redundant, "the old primary as a standby", deadline_s=60)
        assert herd.primary() == other
        assert "warden.killed" in herd.places[old].log.read_text()
        assert "the warden ended a server" in str(herd.status()["warnings"])
        assert told[old].last() == last
