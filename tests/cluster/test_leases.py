"""Consensus is lost under a primary that is well: its lease runs out, with and without voters. So
does everything it knows of a lease, with its Raft store."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from checkups import until_red

from pgherd.proof.herd import LocalHerd
from pgherd.proof.history import check
from pgherd.proof.processes import send
from pgherd.proof.writers import Writers, create_table, read_rows

TTL_S = 5.0
LASTS_S = 15.0
PATH = "/replication/sync"


@pytest.fixture(scope="module")
def own() -> Iterator[LocalHerd]:
    """Two data members and a witness, with the shortest lease, and a watchdog that nobody built in;
    one PostgreSQL will do."""
    failover = {"lease_ttl": f"{TTL_S:g}s", "watchdog": "automatic"}
    overrides = {"failover": {**failover, "watchdog_device": "/dev/no-watchdog"}}
    herd = LocalHerd(3, witnesses=1, overrides=overrides)
    try:
        herd.start()
        herd.wait_stable(90)
        yield herd
    finally:
        herd.stop(graceful=False)
        herd.remove()


@contextmanager
def stopped_agents(herd: LocalHerd, *names: str) -> Iterator[None]:
    """Their agents stand still; their PostgreSQL goes on."""
    pids = [herd.part_pid(name, "agent") for name in names]
    found = [pid for pid in pids if pid is not None]
    assert len(found) == len(names)
    send(found, signal.SIGSTOP)
    try:
        yield
    finally:
        send(found, signal.SIGCONT)


def seconds_left(herd: LocalHerd, name: str) -> Any:
    return herd.ask("/health", name=name)["lease_seconds_left"]


def runs_out(herd: LocalHerd, name: str) -> list[str]:
    """Watch a primary's lease run out; what its own status says then."""
    seen = [seconds_left(herd, name)]
    assert 0 < seen[0] < TTL_S
    end = time.monotonic() + LASTS_S
    while seen[-1] > 0:
        assert time.monotonic() < end, f"the lease is renewed although nobody can agree: {seen}"
        time.sleep(0.1)
        seen.append(seconds_left(herd, name))
    assert len(set(seen)) > 3, seen
    status = herd.ask("/cluster/status", name=name)
    assert (status["lease"]["state"], status["lease"]["seconds_left"]) == ("lost", 0.0)
    herd.wait_for(
        lambda: "lease.lost" in herd.places[name].log.read_text(), "warning", deadline_s=5
    )
    return [text for text in status["problems"] if "lease" in text]


def wait_lease(herd: LocalHerd, name: str) -> None:
    herd.wait_for(lambda: seconds_left(herd, name), "a renewed lease", deadline_s=LASTS_S)


def acknowledges(writers: Writers) -> bool:
    """Whether anything is acknowledged within a second."""
    before = writers.acknowledged()
    time.sleep(1.0)
    return writers.acknowledged() > before


def wait_writes(herd: LocalHerd, writers: Writers, what: str) -> None:
    """Whatever it waits for stays as it is meanwhile."""
    herd.wait_for(lambda: acknowledges(writers), what, deadline_s=10)


def waits_alone(herd: LocalHerd, writers: Writers, primary: str, witness: str) -> None:
    """Consensus is lost: nothing is acknowledged past the deadline, and soon again afterwards."""
    wait_writes(herd, writers, "write by a primary alone, which has its lease")
    term = herd.status()["epoch"]
    with stopped_agents(herd, witness):
        [said] = runs_out(herd, primary)
        assert "writes wait" in said
        herd.wait_for(
            lambda: herd.query(primary, "SHOW synchronous_standby_names") == [('"pgherd-closed"',)],
            "closed names",
            deadline_s=10,
        )
        time.sleep(0.5)
        assert not acknowledges(writers), "acknowledged alone, without a lease"
    herd.wait_for(lambda: acknowledges(writers), "writes", deadline_s=15)
    assert herd.status()["epoch"] == term, "a lease that comes back costs no term"


@pytest.mark.fault(54, 70)
def test_a_lease_runs_out(own: LocalHerd) -> None:
    """With a voter writes go on. Without, they wait until the lease is renewed, and none is lost.

    First the agents of standby and witness stand still, while the standby's server streams on. Then
    the standby is gone, the ledger has no voter any more, and the witness stands still: in mode
    quorum, then in mode async.
    """
    herd = own
    herd.wait_stable(90)
    primary = herd.wait_primary()
    [witness] = herd.witnesses
    [standby] = set(herd.data) - {primary}
    create_table(herd.dsn_direct())
    assert seconds_left(herd, standby) is None
    wait_lease(herd, primary)
    writers = Writers(herd.dsn_direct(), count=2)
    writers.start()
    try:
        with stopped_agents(herd, standby, witness):
            [said] = runs_out(herd, primary)
            assert "that stops no write" in said
            wait_writes(herd, writers, "write that a standby has, without a lease")
        wait_lease(herd, primary)
        herd.kill_node(standby)
        herd.wait_for(
            lambda: herd.status()["synchronous"]["num_sync"] == 0, "no voter", deadline_s=30
        )
        until_red(herd, primary, ("herd.synchronous", ""), ("watchdog.lacking", primary))
        waits_alone(herd, writers, primary, witness)
        herd.ask(PATH, method="POST", body={"replication": "async"}, timeout_s=70.0)
        wait_lease(herd, primary)
        waits_alone(herd, writers, primary, witness)
        herd.wait_for(
            lambda: "lease.regained" in herd.places[primary].log.read_text(), "word", deadline_s=10
        )
    finally:
        writers.stop()
    verdict = check(writers.history(), read_rows(herd.dsn_node(primary)))
    assert verdict.clean, str(verdict)


def lose_store(herd: LocalHerd, name: str) -> int:
    """The Raft store is gone, and the agent dies; where its log ended then."""
    agent, mark = herd.part_pid(name, "agent"), herd.places[name].log.stat().st_size
    for path in (herd.places[name].directory / "raft").glob("store.sqlite*"):
        path.unlink()
    assert herd.kill_agent(name) == agent
    herd.wait_for(lambda: "store.amnesia" in said(herd, name, mark), "amnesia", deadline_s=20)
    return mark


def said(herd: LocalHerd, name: str, since: int) -> str:
    return herd.places[name].log.read_bytes()[since:].decode()


def test_a_lost_store_is_no_lease(own: LocalHerd) -> None:
    """A primary that writes alone holds writes while its agent has no memory, though its lease is
    not over, and its sessions go on when it is back. One with a voter writes on.
    """
    herd = own
    herd.start()
    herd.wait_stable(90)
    herd.ask(PATH, method="POST", body={"replication": "quorum"}, timeout_s=70.0)
    herd.wait_for(lambda: herd.status()["synchronous"]["num_sync"] == 1, "a voter", deadline_s=30)
    primary = herd.wait_primary()
    [witness] = herd.witnesses
    [standby] = set(herd.data) - {primary}
    create_table(herd.dsn_direct())
    writers = Writers(herd.dsn_direct(), count=2)
    writers.start()
    try:
        herd.kill_node(standby)
        herd.wait_for(
            lambda: herd.status()["synchronous"]["num_sync"] == 0, "no voter", deadline_s=30
        )
        wait_writes(herd, writers, "write by a primary alone, which has its lease")
        postmaster = herd.postmaster_pid(primary)
        with stopped_agents(herd, witness):
            since = lose_store(herd, primary)
            herd.wait_for(
                lambda: (
                    herd.query(primary, "SHOW synchronous_standby_names") == [('"pgherd-closed"',)]
                ),
                "closed names",
                deadline_s=10,
            )
            time.sleep(0.5)
            assert not acknowledges(writers), "acknowledged alone, without a memory"
            assert "knows of no lease" in said(herd, primary, since)
            assert "lease.lost" not in said(herd, primary, since)
            assert herd.postmaster_pid(primary) == postmaster, "closing failed"
            until_red(herd, primary, ("agent.amnesia", primary), ("agent.young", primary))
        herd.start_node(standby)
        herd.wait_for(lambda: acknowledges(writers), "writes", deadline_s=40)
        herd.wait_stable(60)
        primary = herd.wait_primary()  # the other one, where it had caught up before an election
        [standby] = set(herd.data) - {primary}
        herd.wait_for(
            lambda: (
                (lease := herd.status()["lease"])["holder"] == primary and lease["state"] == "held"
            ),
            "the primary's lease",
            deadline_s=30,
        )
        herd.wait_for(
            lambda: herd.status()["synchronous"]["num_sync"] == 1, "a voter again", deadline_s=30
        )
        with stopped_agents(herd, standby, witness):
            lose_store(herd, primary)
            wait_writes(herd, writers, "write that a voter has, without a memory")
    finally:
        writers.stop()
    verdict = check(writers.history(), read_rows(herd.dsn_node(primary)))
    assert verdict.clean, str(verdict)
