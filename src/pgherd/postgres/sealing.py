"""Steps (3) and (4) of F2: make a standby stop receiving, replay what it has, and stand still.

Theory of operation. The receiver is stopped through the startup process (empty primary_conninfo),
then by SIGTERM, then by ending the whole server and starting it without an upstream. Only when no
receiver is left may the position be read, and only by positive signs: the startup process is parked
in its retry wait, *and* either everything received is replayed, or it was seen parked again after
it has looked at the local WAL anew.

Why the second look needs a proof of its own: a startup process whose receiver has just died goes to
its retry wait *before* it reads what that receiver left on disk (PostgreSQL's
WaitForWALToBecomeAvailable tests WalRcvStreaming first), so two samples within one wait prove
nothing, however far apart. While sealed the wait is 10 ms, and the kernel counts how often a
process falls asleep: parked in a later sleep, with replay where it was, means that it looked at the
local WAL again and found no more.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, LiteralString

import msgspec

from pgherd.model.errors import PostgresError
from pgherd.model.ids import Lsn, Position, Term, parse_lsn
from pgherd.postgres import live, processes
from pgherd.postgres.look import EPOCH_SQL, PARKED
from pgherd.postgres.settings import CLOSED_NAMES

if TYPE_CHECKING:
    from pgherd.postgres.server import PostgresServer

POLL_S = 0.004
RECEIVER_TERM_S = 0.1
RECEIVER_KILL_S = 0.3
PARKED_AGAIN_S = 0.02
PARKED_AGAIN_BLIND_S = 0.5
SLEEPS_BETWEEN_LOOKS = 3
"""One sleep may belong to the first sample, one be a stray signal; the third follows a look."""

CONFLICT_S = 0.3

WATCH_SQL: LiteralString = """
SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn()::text, pg_last_wal_receive_lsn()::text,
  ARRAY(SELECT pid FROM pg_stat_activity WHERE backend_type = 'walreceiver'
        UNION SELECT pid FROM pg_stat_wal_receiver WHERE pid IS NOT NULL),
  coalesce((SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'), 0),
  coalesce((SELECT wait_event_type || ':' || wait_event FROM pg_stat_activity
            WHERE backend_type = 'startup'), '')
"""
RESUME_SQL: LiteralString = """
SELECT CASE WHEN pg_is_wal_replay_paused() THEN pg_wal_replay_resume()::text END
"""


class Sample(msgspec.Struct, frozen=True):
    """One look at a standby that is being sealed. sleeps: how often startup fell asleep so far."""

    recovering: bool
    replay: Lsn
    receive: Lsn | None
    receivers: tuple[int, ...]
    wait: str
    at: float
    sleeps: int | None

    @property
    def parked(self) -> bool:
        return self.wait.endswith(":" + PARKED)

    @property
    def in_conflict(self) -> bool:
        kind, _, event = self.wait.partition(":")
        return kind in ("Lock", "BufferPin") or event.startswith("RecoveryConflict")


def is_drained(first: Sample, last: Sample) -> bool:
    """Whether `last` is final, `first` being the oldest of an unbroken row of parked samples."""
    if not last.parked or last.receivers or not last.recovering:
        return False
    if last.receive is not None and last.replay >= last.receive:
        return True
    waited = last.at - first.at
    if first.sleeps is None or last.sleeps is None:
        return waited >= PARKED_AGAIN_BLIND_S
    return waited >= PARKED_AGAIN_S and last.sleeps - first.sleeps >= SLEEPS_BETWEEN_LOOKS


async def seal(server: PostgresServer, *, timeout_s: float) -> Position:
    """Stop reception, drain replay and return the final position; an error is never "done"."""
    try:
        async with asyncio.timeout(timeout_s):
            try:
                await _cut(server)
            except PostgresError:
                await _cut_hard(server, timeout_s)
            replay = await _drain(server)
            term = await _epoch(server)
            last = await _sample(server)
    except TimeoutError as error:
        raise PostgresError(f"replay did not drain within {timeout_s:g} s") from error
    if last.replay != replay or last.receivers or not last.recovering:
        raise PostgresError("the standby moved after it had drained")
    return Position(term, replay)


async def cut(server: PostgresServer, *, timeout_s: float) -> None:
    """Stop reception, and leave the delay of replay as it is. Raises PostgresError."""
    try:
        async with asyncio.timeout(timeout_s):
            await _cut(server, delay=live.delay_of(server.live))
    except TimeoutError as error:
        raise PostgresError(f"its receiver did not end within {timeout_s:g} s") from error


async def _cut(server: PostgresServer, *, delay: str = "0") -> None:
    """Take the upstream away and wait until the receiver's process is gone."""
    began = asyncio.get_running_loop().time()
    await server.set_upstream(None, None, delay=delay)
    await server.acting.rows(RESUME_SQL)
    terminated: set[int] = set()
    seen: set[int] = set()
    while True:
        sample = await _sample(server)
        if not sample.recovering:
            raise PostgresError("a primary cannot be sealed")
        seen |= set(sample.receivers)
        alive = [pid for pid in seen if processes.belongs(pid, server.data_dir)]
        if not sample.receivers and not alive:
            return
        waited = asyncio.get_running_loop().time() - began
        if waited > RECEIVER_KILL_S:
            raise PostgresError(f"walreceiver {alive} does not end")
        if waited > RECEIVER_TERM_S:
            for pid in set(alive) - terminated:
                processes.send(pid, signal.SIGTERM, data_dir=server.data_dir)
                terminated.add(pid)
        await asyncio.sleep(POLL_S)


async def _cut_hard(server: PostgresServer, timeout_s: float) -> None:
    """End the whole server; what starts in its place has no upstream."""
    state = await server.state()
    if state.control is not None and state.control.state == "in production":
        raise PostgresError("a primary cannot be sealed")
    await server.kill_tree()
    await server.start(names=CLOSED_NAMES, conninfo=None, slot=None, deadline_s=timeout_s)


async def _drain(server: PostgresServer) -> Lsn:
    """Wait for the positive signs; return the end of replay."""
    began = asyncio.get_running_loop().time()
    first: Sample | None = None
    while True:
        sample = await _sample(server)
        if not sample.parked or (first is not None and first.replay != sample.replay):
            first = None
        if sample.parked:
            first = first or sample
            if is_drained(first, sample):
                return sample.replay
        if sample.in_conflict and sample.at - began > CONFLICT_S:
            await end_backends(server)
        await asyncio.sleep(POLL_S)


async def end_backends(server: PostgresServer) -> int:
    """Terminate every client's session but our own; return how many there were."""
    rows = await server.acting.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE backend_type IN ('client backend', 'parallel worker') AND pid <> ALL($1)",
        [server.own_pids()],
    )
    return len(rows)


async def _epoch(server: PostgresServer) -> Term:
    (exists,) = await server.acting.row("SELECT to_regclass('pgherd.epoch') IS NOT NULL")
    rows = await server.acting.rows(EPOCH_SQL) if exists else []
    return Term(rows[0][0]) if rows else Term(0)


async def _sample(server: PostgresServer) -> Sample:
    row = await server.acting.row(WATCH_SQL, again=True)
    recovering, replay, receive, receivers, startup, wait = row
    sleeps = processes.voluntary_switches(startup) if startup else None
    return Sample(
        recovering=recovering,
        replay=parse_lsn(replay) if replay else Lsn(0),
        receive=parse_lsn(receive) if receive else None,
        receivers=tuple(receivers),
        wait=wait,
        at=asyncio.get_running_loop().time(),
        sleeps=sleeps,
    )
