"""Mode async on real servers: asked for while the herd runs, its failovers, and the way back."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from pgherd.proof.client import NoAnswer
from pgherd.proof.herd import LocalHerd
from pgherd.proof.history import check
from pgherd.proof.processes import send
from pgherd.proof.trials import Fault, attempt
from pgherd.proof.writers import Writers, read_rows

PATH = "/replication/sync"
BEHIND_BYTES = 1_000_000
LEAST_LAG = "64kB"

StartWriters = Callable[..., Writers]
Count = Callable[..., None]


def set_mode(herd: LocalHerd, mode: str) -> dict[str, Any]:
    found: dict[str, Any] = herd.ask(
        PATH, method="POST", body={"replication": mode}, timeout_s=70.0
    )
    return found


def set_max_lag(herd: LocalHerd, names: list[str], most: str) -> None:
    for name in names:
        herd.reload_node(name, {"failover": {"max_lag": most}})


@pytest.fixture
def asynchronous(herd: LocalHerd) -> Iterator[LocalHerd]:
    """The herd in mode async; quorum again in the end, with its set in PostgreSQL's names."""
    found = set_mode(herd, "async")
    assert (found["replication"], found["in_force"]["voters"]) == ("async", [])
    herd.wait_for(lambda: names(herd) == "", "empty names", deadline_s=10)
    try:
        yield herd
    finally:
        herd.start()
        herd.wait_stable()
        found = set_mode(herd, "quorum")
    assert (found["replication"], found["in_force"]["num_sync"]) == ("quorum", 1)
    herd.wait_for(lambda: names(herd).startswith("ANY 1 ("), "the set's names", deadline_s=10)


def names(herd: LocalHerd) -> str:
    [(value,)] = herd.query(herd.wait_primary(), "SHOW synchronous_standby_names")
    return str(value)


def receivers(herd: LocalHerd, standbys: list[str]) -> list[int]:
    """The processes that receive WAL, once each standby has one that does."""
    statement = "SELECT pid FROM pg_stat_wal_receiver WHERE status = 'streaming'"

    def streaming() -> list[int]:
        found = [herd.query(name, statement) for name in standbys]
        return [int(str(rows[0][0])) for rows in found] if all(found) else []

    return herd.wait_for(streaming, "standbys that stream", deadline_s=30)


def explains(herd: LocalHerd, text: str, standbys: list[str]) -> bool:
    """Whether the Raft leader gives this as its reason."""
    told = []
    for name in standbys:
        with contextlib.suppress(NoAnswer):
            told.append(herd.ask("/explain", name=name)["herd"])
    return any(text in one for one in told)


def test_async(asynchronous: LocalHerd, start_writers: StartWriters, count: Count) -> None:
    """A dead postmaster is waited for and loses nothing, as a switchover does. A dead node is
    waited for until its lease is over; then only who is within max_lag of it leads, and history
    tells what was given up.
    """
    herd = asynchronous
    writers = start_writers()
    attempt(herd, writers, Fault.POSTMASTER)
    attempt(herd, writers, Fault.SWITCHOVER)
    writers.stop()
    verdict = check(writers.history(), read_rows(herd.dsn_direct()))
    assert verdict.clean, str(verdict)
    assert not [one for one in reigns(herd) if one["lost_bytes"] is not None]

    old = herd.wait_primary()
    standbys = [name for name in herd.data if name != old]
    set_max_lag(herd, standbys, LEAST_LAG)
    stopped = receivers(herd, standbys)
    send(stopped, signal.SIGSTOP)
    herd.query(old, f"SELECT pg_logical_emit_message(true, 'x', repeat('x', {BEHIND_BYTES}))")
    herd.query(old, "CREATE TABLE only_there (i int)")
    wait_renewed(herd, old)
    herd.kill_node(old)
    herd.wait_for(
        lambda: explains(herd, "failover.max_lag is 65536", standbys), "a refusal", deadline_s=60
    )
    assert herd.primary() is None
    set_max_lag(herd, standbys, "16MB")
    new = herd.wait_primary(other_than=old, deadline_s=30)
    assert new in standbys
    assert reigns(herd)[-1]["lost_bytes"] > BEHIND_BYTES
    assert herd.query(new, "SELECT to_regclass('only_there')") == [(None,)]
    herd.start()
    herd.wait_stable()
    assert herd.query(old, "SELECT to_regclass('only_there')") == [(None,)]
    count(failovers=2)


def reigns(herd: LocalHerd) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = herd.ask("/history")["reigns"]
    return found


def wait_renewed(herd: LocalHerd, name: str) -> None:
    """Until the lease was renewed twice, so that the ledger knows how far the primary is."""
    seen: list[float] = []

    def twice() -> bool:
        seen.append(herd.ask("/health", name=name)["lease_seconds_left"])
        return sum(after > before for before, after in pairwise(seen)) >= 2

    herd.wait_for(twice, "a renewed lease", deadline_s=20)
