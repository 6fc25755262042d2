"""Replication slots in a running server: ours by their names, and those that people asked for.

Each function speaks through the server's acting session and may be done twice. Which slots there
should be is the deciders' business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

import msgspec

from pgherd.model.action import SlotMade
from pgherd.model.errors import PostgresError
from pgherd.model.ids import Lsn, format_lsn
from pgherd.model.slots import OURS, SYNCED_FROM_MAJOR
from pgherd.postgres.session import Session

if TYPE_CHECKING:
    from pgherd.postgres.server import PostgresServer

PLUGIN_S = 30.0
"""A logical slot waits for the transactions that run when it is made."""
LOGICAL_SQL: LiteralString = "SELECT pg_create_logical_replication_slot($1, $2)"
FAILOVER_SQL: LiteralString = "SELECT pg_create_logical_replication_slot($1, $2, failover => true)"


class SlotChange(msgspec.Struct, frozen=True):
    """What `ensure_slots` did. busy: unwanted ones that are in use and were left alone."""

    created: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    busy: tuple[str, ...] = ()


async def ensure_slots(
    server: PostgresServer, wanted: set[str], *, ignored: set[str] | None = None
) -> SlotChange:
    """Have exactly these physical slots among those named pgherd_*; others are not ours.

    ignored: neither made nor dropped, whatever they are called.
    """
    assert all(name.startswith(OURS) for name in wanted), wanted
    untouched = ignored or set()
    session = server.acting
    rows = await session.rows(
        "SELECT slot_name::text, active FROM pg_replication_slots "
        "WHERE slot_type = 'physical' AND NOT temporary AND starts_with(slot_name::text, $1)",
        [OURS],
    )
    present: dict[str, bool] = dict(rows)
    created = sorted(wanted - set(present) - untouched)
    for name in created:
        await make(server, SlotMade(name, reserve=True))
    unwanted = sorted(set(present) - wanted - untouched)
    dropped = [name for name in unwanted if not present[name]]
    for name in dropped:
        await session.rows("SELECT pg_drop_replication_slot($1)", [name])
    busy = [name for name in unwanted if present[name]]
    return SlotChange(tuple(created), tuple(dropped), tuple(busy))


async def make(server: PostgresServer, slot: SlotMade) -> None:
    """Make a slot that is not there. Raises PostgresError, also where another has its name."""
    if await _exists(server, slot.name):
        return
    if not slot.plugin:
        await server.acting.rows(
            "SELECT pg_create_physical_replication_slot($1, $2)", [slot.name, slot.reserve]
        )
        return
    # In its own database; a copy on standbys where PostgreSQL can.
    login = msgspec.structs.replace(server.login, database=slot.database)
    session = Session(login, statement_timeout_ms=int(PLUGIN_S * 1000))
    copies = server.binaries.major >= SYNCED_FROM_MAJOR
    try:
        statement = FAILOVER_SQL if copies else LOGICAL_SQL
        await session.rows(statement, [slot.name, slot.plugin], timeout_s=PLUGIN_S)
    finally:
        await session.close()


async def drop(server: PostgresServer, name: str) -> None:
    """Drop a slot if it is there. Raises PostgresError where somebody reads from it."""
    if await _exists(server, name):
        await server.acting.rows("SELECT pg_drop_replication_slot($1)", [name])


async def renew(server: PostgresServer, slot: SlotMade) -> None:
    """Drop a slot and make it anew, without what it stood for."""
    await drop(server, slot.name)
    await make(server, slot)


async def advance(server: PostgresServer, name: str, lsn: Lsn) -> None:
    """Move a physical slot on; one that meanwhile is read from moves by itself."""
    try:
        await server.acting.rows(
            "SELECT pg_replication_slot_advance($1, $2::pg_lsn)", [name, format_lsn(lsn)]
        )
    except PostgresError:
        (active,) = await server.acting.row(
            "SELECT coalesce(bool_or(active), true) FROM pg_replication_slots WHERE slot_name = $1",
            [name],
        )
        if not active:
            raise


async def _exists(server: PostgresServer, name: str) -> bool:
    (found,) = await server.acting.row(
        "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)", [name]
    )
    return bool(found)
