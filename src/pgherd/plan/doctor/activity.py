"""Checks of what goes on in one node's PostgreSQL: who waits, what is old, what is used up."""

from __future__ import annotations

from pgherd.model.checkup import Status
from pgherd.plan.doctor.machine import setting
from pgherd.plan.doctor.table import Patient, Table, Verdict, judged

TABLE = Table()
CRITICAL, WARNING, ADVICE = Status.CRITICAL, Status.WARNING, Status.ADVICE

XID_WARN = 1_000_000_000
"""Half of what there is: autovacuum begins at 200 million and should be through long before."""
TRANSACTION_S = 3600
PREPARED_S = 600
IDLE_S = 600
BLOCKED_S = 60
CONNECTIONS_PERCENT = 85
CONFLICTS_MOST = 1000
CHECKPOINTS_LEAST = 20


@TABLE.check(
    "pg.xid_age",
    CRITICAL,
    means="transaction ids run out: PostgreSQL then refuses every write",
    fix="VACUUM (FREEZE, VERBOSE) in the oldest database (SELECT datname, age(datfrozenxid) FROM"
    " pg_database ORDER BY 2 DESC); end what holds it back (prepared, slots, long transactions)",
    server=True,
)
def xid_age(p: Patient) -> Verdict:
    found = p.database.xid_age
    return judged(found > XID_WARN, f"the oldest transaction id is {found:,} transactions old")


@TABLE.check(
    "pg.mxid_age",
    CRITICAL,
    means="ids of row locks run out: PostgreSQL then refuses every write",
    fix="VACUUM (FREEZE) in the database with the highest mxid_age(datminmxid)",
    server=True,
)
def mxid_age(p: Patient) -> Verdict:
    found = p.database.mxid_age
    return judged(found > XID_WARN, f"the oldest multixact is {found:,} multixacts old")


@TABLE.check(
    "pg.long_transactions",
    WARNING,
    means="vacuum removes nothing younger, and a switchover waits for it or cuts it",
    fix="SELECT pid, usename, state, query FROM pg_stat_activity ORDER BY xact_start LIMIT 5; then"
    " SELECT pg_terminate_backend(PID)",
    server=True,
)
def transactions(p: Patient) -> Verdict:
    found = p.database.transaction_s
    return judged(found > TRANSACTION_S, f"the oldest transaction has been open for {found} s")


@TABLE.check(
    "pg.prepared_transactions",
    WARNING,
    means="it holds its locks and vacuum back through restarts and failovers, until somebody ends"
    " it",
    fix="SELECT gid, prepared, owner FROM pg_prepared_xacts; then ROLLBACK PREPARED 'GID'",
    server=True,
)
def prepared(p: Patient) -> Verdict:
    found = p.database.prepared_s
    return judged(found > PREPARED_S, f"the oldest prepared transaction waits since {found} s")


@TABLE.check(
    "pg.idle_in_transaction",
    WARNING,
    means="a client does nothing and holds locks, and vacuum back",
    fix="SELECT pid, usename, application_name FROM pg_stat_activity WHERE state LIKE 'idle in"
    " transaction%'; then SELECT pg_terminate_backend(PID)",
    server=True,
)
def idle(p: Patient) -> Verdict:
    found = p.database.idle_in_transaction_s
    return judged(found > IDLE_S, f"idle in a transaction for up to {found} s")


@TABLE.check(
    "pg.blocked",
    CRITICAL,
    means="sessions pile up behind a lock until no connection is left",
    fix="SELECT pid, pg_blocking_pids(pid), query FROM pg_stat_activity WHERE wait_event_type ="
    " 'Lock'; then end who blocks: SELECT pg_terminate_backend(PID)",
    server=True,
)
def blocked(p: Patient) -> Verdict:
    found = p.database.blocked_s
    return judged(found > BLOCKED_S, f"a session has waited for a lock for up to {found} s")


@TABLE.check(
    "pg.connections",
    CRITICAL,
    means="clients are soon refused: too many clients already",
    fix="pool: transaction at the proxy's listener, or limits there (docs/operate/ways-in.md); at"
    " once: end idle sessions",
    server=True,
)
def connections(p: Patient) -> Verdict:
    most = int(setting(p, "max_connections")) - int(setting(p, "superuser_reserved_connections"))
    used = p.database.connections
    return judged(used * 100 > most * CONNECTIONS_PERCENT, f"{used} of {most} connections in use")


@TABLE.check(
    "pg.conflicts",
    ADVICE,
    means="queries on this replica are cancelled because the primary vacuums what they read",
    fix="pgherd config set hot_standby_feedback=on, or a longer max_standby_streaming_delay",
    server=True,
)
def conflicts(p: Patient) -> Verdict | None:
    if not p.database.is_standby:
        return None
    found = p.database.conflicts
    return judged(found > CONFLICTS_MOST, f"{found} queries cancelled so far")


@TABLE.check(
    "pg.checkpoints",
    ADVICE,
    means="max_wal_size is too small: pages are written in full again and again",
    fix="pgherd config set max_wal_size=4GB (twice what it is, while there is room for it)",
    server=True,
)
def checkpoints(p: Patient) -> Verdict:
    timed, wanted = p.database.checkpoints_timed, p.database.checkpoints_requested
    text = f"{wanted} checkpoints because of WAL, {timed} by time"
    return judged(timed + wanted >= CHECKPOINTS_LEAST and wanted > timed, text)
