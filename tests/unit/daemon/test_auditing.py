"""What was asked for reaches the log at once and the ledger in batches, whatever happens."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from structlog.testing import capture_logs
from waiting import until

from pgherd.api.gate import Asked
from pgherd.api.guard import Caller, Role
from pgherd.api.herd import NoQuorum
from pgherd.daemon import auditing
from pgherd.daemon.auditing import BATCH_MAX, REFUSALS_PER_MINUTE, WAITING_MAX, Auditing
from pgherd.ledger.commands import Done
from pgherd.model.ids import NodeId

structlog.configure(cache_logger_on_first_use=False)
ANN = Caller("ann", Role.ADMIN, "10.0.0.9")
DEADLINE_S = 10.0


class Ledger:
    """Takes batches, or has no quorum."""

    def __init__(self) -> None:
        self.batches = []
        self.tries = 0
        self.has_quorum = True

    async def submit(self, command):
        self.tries += 1
        if not self.has_quorum:
            raise NoQuorum("no leader")
        self.batches.append(command.entries)
        return Done()


@pytest.fixture
def ledger(monkeypatch):
    monkeypatch.setattr(auditing, "BATCH_S", 0.01)
    monkeypatch.setattr(auditing, "RETRY_S", 0.01)
    return Ledger()


def made(ledger, clock=lambda: 0.0):
    return Auditing(me=NodeId("n1"), submit=ledger.submit, unix_s=lambda: 7.0, clock=clock)


def asked(number: int = 1, *, caller=ANN, status: int = 200, code: str = "") -> Asked:
    return Asked(f"r{number}", caller, "10.0.0.9", "POST /switchover", status, code)


def test_changes_of_a_moment_are_one_command(ledger):
    """All that is known of them, in their order; a second later another one."""

    async def story():
        audit = made(ledger)
        for number in range(3):
            audit.changed(asked(number))
        audit.changed(asked(9, status=404, code="unknown_node"))
        await until(lambda: ledger.batches)
        audit.changed(asked(10))
        await until(lambda: len(ledger.batches) == 2)
        await audit.end()

    with capture_logs() as lines:
        asyncio.run(story())
    first, second = ledger.batches
    assert [one.request for one in (*first, *second)] == ["r0", "r1", "r2", "r9", "r10"]
    assert len({one.id for one in first}) == 4, "the caller's id is not what tells them apart"
    last = first[-1]
    assert (last.node, last.at_ms, last.who, last.address) == ("n1", 7000, "ann", "10.0.0.9")
    assert (last.what, last.status, last.code) == ("POST /switchover", 404, "unknown_node")
    assert [line["request"] for line in lines if line["event"] == "api.changed"][-1] == "r10"


def test_what_finds_no_quorum_waits_for_one(ledger):
    """A bounded number of them, the newest; and nothing is told twice."""
    ledger.has_quorum = False

    async def story():
        audit = made(ledger)
        for number in range(WAITING_MAX + 10):
            audit.changed(asked(number))
        await until(lambda: ledger.tries > 1)
        ledger.has_quorum = True
        await until(lambda: sum(map(len, ledger.batches)) == WAITING_MAX)
        await audit.end()

    asyncio.run(story())
    told = [one.request for batch in ledger.batches for one in batch]
    assert told == [f"r{number}" for number in range(10, WAITING_MAX + 10)]
    assert max(map(len, ledger.batches)) == BATCH_MAX


def test_the_end_tells_what_waits(ledger, monkeypatch):
    monkeypatch.setattr(auditing, "BATCH_S", 3600)

    async def story():
        audit = made(ledger)
        await audit.end()
        audit.changed(asked())
        await audit.end()

    asyncio.run(story())
    assert [len(batch) for batch in ledger.batches] == [1]


def test_refusals_are_in_the_log_only_and_not_too_many(ledger):
    """Whoever tries tokens fills neither ledger nor log."""
    now = [0.0]

    async def story():
        audit = made(ledger, clock=lambda: now[0])
        for number in range(REFUSALS_PER_MINUTE + 5):
            audit.changed(asked(number, caller=None, status=401, code="unauthenticated"))
        now[0] = 61.0
        audit.changed(asked(caller=ANN, status=403, code="not_authorised"))
        await audit.end()

    with capture_logs() as lines:
        asyncio.run(story())
    assert ledger.tries == 0
    refused = [line for line in lines if line["event"] == "api.refused"]
    assert len(refused) == REFUSALS_PER_MINUTE + 1
    assert (refused[0]["who"], refused[-1]["who"]) == ("unknown", "ann")
    [more] = [line for line in lines if line["event"] == "api.refused_more"]
    assert more["count"] == 5
