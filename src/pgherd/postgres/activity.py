"""Transactions that have been open for long on a server: what work on its node would cut short.

One statement on the session for questions; of the busiest server only so many are told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.model.activity import Transaction

if TYPE_CHECKING:
    from pgherd.postgres.server import PostgresServer

READ_S = 1.5
TOLD_MAX = 20

_LONG = f"""
SELECT * FROM (
    SELECT pid::text, coalesce(usename, '')::text, coalesce(datname, '')::text,
           coalesce(state, ''), extract(epoch FROM now() - xact_start)::bigint::text AS age
      FROM pg_stat_activity
     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
       AND xact_start < now() - $1::int * interval '1 second'
    UNION ALL
    SELECT '0', owner::text, database::text, 'prepared',
           extract(epoch FROM now() - prepared)::bigint::text
      FROM pg_prepared_xacts WHERE prepared < now() - $1::int * interval '1 second'
) long ORDER BY age::bigint DESC LIMIT {TOLD_MAX}
"""


async def long_transactions(server: PostgresServer, seconds: int) -> tuple[Transaction, ...]:
    """Those open for longer than that, the oldest first. Raises PostgresError."""
    rows = await server.reading.rows(_LONG, [seconds], timeout_s=READ_S, again=True)
    return tuple(
        Transaction(int(pid), user, database, state, int(age))
        for pid, user, database, state, age in rows
    )
