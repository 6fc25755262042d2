"""A fast-forward on two servers: a sealed standby lends WAL through a slot, another one takes it.

Owns the slot and its end, the connection's name, and the wait for the WAL. Why a slot: a standby
that is promoted goes on feeding those that stream from it, and only a slot that is gone keeps one
away whose own agent is dead (docs/adr/0028).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, LiteralString

from pgherd.model.errors import PostgresError
from pgherd.model.ids import FEED_SLOT, LENT_SLOT, Lsn, NodeId, Term, forward_slot, parse_lsn
from pgherd.postgres.settings import upstream_conninfo

if TYPE_CHECKING:
    from pgherd.postgres.server import PostgresServer

NAME = "pgherd-forward-"
"""What the connection is called: no token, so no synchronous_standby_names can match it."""
POLL_S = 0.005
SENDER_GONE_MS = 2000
DROPS_MAX = 20
"""A candidate that still runs takes the slot again within milliseconds of losing it."""

SLOTS_SQL: LiteralString = """
SELECT slot_name::text, coalesce(active_pid, 0) FROM pg_replication_slots
 WHERE slot_type = 'physical' AND starts_with(slot_name::text, $1)
"""
REACHED_SQL: LiteralString = """
SELECT pg_last_wal_replay_lsn()::text, pg_last_wal_receive_lsn()::text
"""


async def lend(server: PostgresServer, to: NodeId) -> None:
    """Have the slot through which a node takes WAL from this standby."""
    name = forward_slot(to)
    if name not in {slot for slot, _ in await _slots(server, name)}:
        await server.acting.rows("SELECT pg_create_physical_replication_slot($1)", [name])


async def end(
    server: PostgresServer, *, of: Term | None = None, kind: str = LENT_SLOT
) -> tuple[str, ...]:
    """End what is lent: walsenders and slots; return which. Raises PostgresError if one stays.

    of: cascading replicas of this term are fed on, none of another · kind: what the slots' names
    begin with.
    """
    ended: set[str] = set()
    stay = f"{FEED_SLOT}{of}_"
    for _ in range(DROPS_MAX):
        slots = [one for one in await _slots(server, kind) if not one[0].startswith(stay)]
        if not slots:
            return tuple(sorted(ended))
        for name, pid in slots:
            ended.add(name)
            await _drop(server, name, pid)
    raise PostgresError(f"slots {sorted(ended)} are in use again and again")


async def _slots(server: PostgresServer, kind: str) -> list[tuple[str, int]]:
    return [(name, pid) for name, pid in await server.acting.rows(SLOTS_SQL, [kind])]


async def _drop(server: PostgresServer, name: str, pid: int) -> None:
    if pid:
        await server.acting.rows("SELECT pg_terminate_backend($1, $2)", [pid, SENDER_GONE_MS])
    # Who came back in between has it again: then the next round ends that one.
    with contextlib.suppress(PostgresError):
        await server.acting.rows(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
            "WHERE slot_name = $1 AND NOT active",
            [name],
        )


async def take(
    server: PostgresServer, *, me: NodeId, host: str, port: int, upto: Lsn, stall_s: float
) -> bool:
    """Stream from a holder until replay is there; False once nothing has come for so long."""
    name = NAME + me
    conninfo = upstream_conninfo(server.settings, host=host, port=port, application_name=name)
    await server.borrow_upstream(conninfo, forward_slot(me))
    clock = asyncio.get_running_loop().time
    seen, since = "", clock()
    while True:
        replay, received = await server.acting.row(REACHED_SQL)
        if replay and parse_lsn(replay) >= upto:
            return True
        now = f"{replay} {received}"
        if now != seen:
            seen, since = now, clock()
        if clock() - since > stall_s:
            return False
        await asyncio.sleep(POLL_S)
