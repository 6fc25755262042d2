"""An agent stands still while its PostgreSQL is well and writes alone: its lease ends it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from pgherd.postgres import tree
from pgherd.proof.herd import LocalHerd
from pgherd.proof.processes import is_alive, send

TTL_S = 5.0
EVERY_S = 0.05
TIMEOUT_S = 1.0
PATH = "/replication/sync"

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


def is_degraded(herd: LocalHerd, name: str) -> bool:
    """Whether the ledger knows no standby any more, and the server waits for none."""
    alone = herd.status()["synchronous"]["num_sync"] == 0
    return alone and herd.query(name, "SHOW synchronous_standby_names") == [("",)]


def stands_still_in_async(herd: LocalHerd, told: dict[str, Prober], old: str) -> None:
    """Nothing is acknowledged there once another one leads, and it returns as a standby."""
    [other] = set(herd.data) - {old}
    agent, stopped_at = stop_agent(herd, old), time.monotonic()
    herd.wait_for(lambda: told[other].first_after(stopped_at), "a new primary", deadline_s=30)
    first = told[other].first_after(stopped_at)
    assert first is not None
    time.sleep(1.0)
    last = told[old].last()
    print(f"async: last {last - stopped_at:.2f} s after the stop, new {first - stopped_at:.2f} s")
    assert stopped_at < last < first
    assert last - stopped_at < TTL_S
    send([agent], signal.SIGCONT)
    herd.wait_for(herd.is_redundant, "the old primary as a standby", deadline_s=60)
    assert herd.primary() == other
    assert "warden.killed" in herd.places[old].log.read_text()
    herd.wait_for(
        lambda: f"{old}: the warden ended a server" in str(herd.status()["warnings"]),
        "the reason in status",
        deadline_s=10,
    )
    assert told[old].last() == last


def stands_still_degraded(herd: LocalHerd, told: dict[str, Prober], primary: str) -> None:
    """Nothing is acknowledged after its lease; when its agent goes on, it leads again."""
    herd.wait_for(lambda: is_degraded(herd, primary), "a degraded primary", deadline_s=30)
    agent, stopped_at = stop_agent(herd, primary), time.monotonic()
    time.sleep(TTL_S + 1.0)
    last = told[primary].last()
    print(f"degraded: last {last - stopped_at:.2f} s after the stop")
    assert stopped_at < last < stopped_at + TTL_S
    send([agent], signal.SIGCONT)
    went_on = time.monotonic()
    herd.wait_for(lambda: told[primary].first_after(went_on), "its commits", deadline_s=30)


def is_kept_dead(herd: LocalHerd, told: dict[str, Prober], primary: str) -> None:
    """An agent that dies and refuses to start again: its supervisor ends last of all."""
    herd.wait_for(lambda: is_degraded(herd, primary), "a degraded primary", deadline_s=30)
    config = herd.places[primary].config
    right = config.read_text()
    config.write_text("version: nonsense\n")
    herd.kill_agent(primary)
    died_at = time.monotonic()
    while not herd.trouble():
        assert time.monotonic() < died_at + 30, "the supervisor did not end with its agent"
        time.sleep(0.1)
    assert herd.terminate_node(primary) == 2
    last = told[primary].last()
    print(f"kept dead: last {last - died_at:.2f} s after its death")
    assert last - died_at < TTL_S
    config.write_text(right)
    herd.start_node(primary)
    herd.wait_for(lambda: told[primary].first_after(last), "its commits", deadline_s=30)


def loses_its_supervisor(herd: LocalHerd, told: dict[str, Prober], primary: str) -> None:
    """Nobody keeps the deadline any more: the agent closes the server and ends; that one stays."""
    herd.wait_for(lambda: is_degraded(herd, primary), "a degraded primary", deadline_s=30)
    postmaster, agent = herd.postmaster_pid(primary), herd.part_pid(primary, "agent")
    assert agent is not None
    send([tree.parent(agent)], signal.SIGKILL)
    while is_alive(agent):
        time.sleep(0.05)
    closed_at = time.monotonic()
    herd.terminate_node(primary)
    time.sleep(1.0)
    assert told[primary].last() < closed_at
    herd.start_node(primary)
    herd.wait_for(lambda: told[primary].first_after(closed_at), "its commits", deadline_s=30)
    assert herd.postmaster_pid(primary) == postmaster, "adopted, not restarted"


@pytest.mark.fault(3, 4)
def test_an_agent_stands_still(alone: LocalHerd) -> None:
    """Nobody else is there to close its server: the warden ends it at the end of its lease."""
    herd = alone
    old = herd.wait_primary()
    [other] = set(herd.data) - {old}
    with probers(herd) as told:
        herd.wait_for(lambda: len(told[old].replies) > 20, "commits", deadline_s=20)
        stands_still_in_async(herd, told, old)
        herd.ask(PATH, method="POST", body={"replication": "quorum"}, timeout_s=70.0)
        herd.kill_node(old)
        stands_still_degraded(herd, told, other)
        is_kept_dead(herd, told, other)
        loses_its_supervisor(herd, told, other)
