"""Cancel what a process of this server runs, but not its wait for a standby.

A commit is first flushed, then waited for, and PostgreSQL keeps a cancel that comes during the
flush for the wait. So a process that flushes is looked at again, for a while: a load that flushes
all the time can still be cancelled. The look and the cancel are one statement, on shared memory;
what comes between the two is found by the proxy, from the server's warning.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgherd.postgres.server import PostgresServer

CANCEL_S = 1.5
LOOKS_MAX = 40
LOOK_AGAIN_S = 0.01

_LOOK = """
SELECT CASE WHEN wait_event = 'SyncRep' THEN 'waits'
            WHEN $2 AND lower(wait_event) IN ('walsync', 'walwrite') THEN 'flushes'
            ELSE pg_cancel_backend($1)::text END
  FROM pg_stat_get_activity($1)
"""


class Seen(StrEnum):
    """What a process did when it was to be cancelled. GONE: there is none of that number."""

    WAITS = "waits"
    CANCELLED = "cancelled"
    GONE = "gone"


async def cancel_unless_waiting(server: PostgresServer, pid: int) -> Seen:
    """See the module's text. Raises PostgresError."""
    for look in range(LOOKS_MAX):
        is_patient = look + 1 < LOOKS_MAX
        rows = await server.reading.rows(_LOOK, [pid, is_patient], timeout_s=CANCEL_S, again=True)
        if not rows:
            return Seen.GONE
        if rows[0][0] == "waits":
            return Seen.WAITS
        if rows[0][0] != "flushes":
            return Seen.CANCELLED
        await asyncio.sleep(LOOK_AGAIN_S)
    raise AssertionError("the last look is not patient")
