"""What the node's own PostgreSQL says in a check-up, over the Unix socket, as the superuser.

A few statements, each within the session's deadline; none of them reads a table of users, writes,
or waits for a lock. What our own session has set for itself (`Login`) is told as clients have it,
by the server's files. One that fails makes the whole part unknown: half an answer would be well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import LiteralString

import msgspec

from pgherd.model.checkup import Database, Slot
from pgherd.postgres.session import Session
from pgherd.telemetry.hiding import HIDDEN, hide

READ_S = 4.0
SPLIT_CHECKPOINTER = 170_000
KNOWS_COLLATIONS = 150_000

SETTINGS: LiteralString = """
SELECT json_object_agg(name, setting)::text FROM pg_settings
 WHERE source <> 'default' OR name = ANY(string_to_array($1, ' '))
"""
NEEDED = """
server_version_num shared_buffers max_connections superuser_reserved_connections max_wal_size
wal_keep_size fsync full_page_writes data_checksums wal_log_hints wal_level hot_standby autovacuum
track_counts synchronous_commit default_transaction_read_only listen_addresses archive_mode ssl
max_slot_wal_keep_size log_lock_waits log_checkpoints log_statement log_min_duration_statement
idle_in_transaction_session_timeout max_worker_processes max_wal_senders max_prepared_transactions
max_locks_per_transaction work_mem TimeZone lc_messages shared_preload_libraries server_encoding
statement_timeout track_commit_timestamp huge_pages
"""
LOOK: LiteralString = """
SELECT json_build_object(
    'is_standby', pg_is_in_recovery(),
    'clients', (SELECT json_object_agg(s.name, coalesce(f.setting, s.boot_val))
                  FROM pg_settings s LEFT JOIN (
                       SELECT DISTINCT ON (lower(name)) lower(name) AS name, setting
                         FROM pg_file_settings WHERE error IS NULL
                        ORDER BY lower(name), seqno DESC) f ON f.name = lower(s.name)
                 WHERE s.source = 'client'),
    'unsynced', (SELECT coalesce(json_agg(format('%s%s', coalesce(r.rolname, 'all'),
                                                 ' in ' || d.datname)), '[]')
                   FROM pg_db_role_setting o LEFT JOIN pg_roles r ON r.oid = o.setrole
                   LEFT JOIN pg_database d ON d.oid = o.setdatabase
                  WHERE setconfig && ARRAY['synchronous_commit=off', 'synchronous_commit=local']),
    'pending', (SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM pg_settings
                 WHERE pending_restart),
    'file_errors', (SELECT coalesce(json_agg(format('%s line %s: %s: %s', sourcefile, sourceline,
                                                    name, error)), '[]')
                      FROM pg_file_settings f WHERE error IS NOT NULL AND NOT EXISTS (
                           SELECT FROM pg_settings s
                            WHERE lower(s.name) = lower(f.name) AND pending_restart)),
    'hba_errors', (SELECT coalesce(json_agg(format('line %s: %s', line_number, error)), '[]')
                     FROM pg_hba_file_rules WHERE error IS NOT NULL),
    'hba_trust', (SELECT coalesce(json_agg(format('line %s: %s %s %s %s', line_number, type,
                         array_to_string(database, ','), array_to_string(user_name, ','),
                         address)), '[]')
                    FROM pg_hba_file_rules WHERE auth_method = 'trust' AND type <> 'local'),
    'weak_roles', (SELECT coalesce(json_agg(rolname ORDER BY rolname), '[]') FROM pg_authid
                    WHERE rolpassword LIKE 'md5%' AND rolcanlogin),
    'expiring', (SELECT coalesce(json_object_agg(rolname,
                         extract(epoch FROM rolvaliduntil - now())::bigint), '{}')
                   FROM pg_authid WHERE rolname = ANY(string_to_array($1, ' '))
                    AND isfinite(rolvaliduntil)),
    'archive_failed', (SELECT coalesce(last_failed_wal, '') FROM pg_stat_archiver
                        WHERE last_failed_time > coalesce(last_archived_time, '-infinity')),
    'xid_age', (SELECT max(age(datfrozenxid)) FROM pg_database),
    'mxid_age', (SELECT max(mxid_age(datminmxid)) FROM pg_database),
    'prepared_s', (SELECT extract(epoch FROM now() - min(prepared))::bigint FROM pg_prepared_xacts),
    'wal_bytes', (SELECT sum(size) FROM pg_ls_waldir()),
    'checksum_failures', (SELECT sum(checksum_failures) FROM pg_stat_database)
)::text
"""
ACTIVITY: LiteralString = """
SELECT json_build_object(
    'connections', count(*),
    'transaction_s', max(extract(epoch FROM clock_timestamp() - xact_start)::bigint),
    'idle_in_transaction_s', max(extract(epoch FROM clock_timestamp() - state_change)::bigint)
        FILTER (WHERE state LIKE 'idle in transaction%'),
    'blocked_s', max(extract(epoch FROM clock_timestamp() - query_start)::bigint)
        FILTER (WHERE wait_event_type = 'Lock'),
    'conflicts', (SELECT sum(confl_tablespace + confl_lock + confl_snapshot + confl_bufferpin
                             + confl_deadlock) FROM pg_stat_database_conflicts)
)::text FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
SLOTS: LiteralString = """
SELECT coalesce(json_agg(json_build_object(
    'name', slot_name, 'active', active, 'lost', coalesce(wal_status = 'lost', false),
    'kept_bytes', coalesce(greatest(0, pg_wal_lsn_diff(
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
        restart_lsn)), 0)::bigint,
    'xmin_age', greatest(coalesce(age(xmin), 0), coalesce(age(catalog_xmin), 0)))), '[]')::text
  FROM pg_replication_slots WHERE NOT temporary
"""
CHECKPOINTS: LiteralString = """
SELECT checkpoints_timed::text, checkpoints_req::text FROM pg_stat_bgwriter
"""
CHECKPOINTS_NEWER: LiteralString = """
SELECT num_timed::text, num_requested::text FROM pg_stat_checkpointer
"""
COLLATIONS: LiteralString = """
SELECT datname::text FROM pg_database
 WHERE datallowconn AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid)
   AND datcollversion IS NOT NULL
"""


SECRET = re.compile(
    r"conninfo|command|passphrase|passw(?!ord_encryption)|secret|token|credential|key$|\."
)
"""Parameters, and all of extensions and applications, that may hold a secret."""


def shown(name: str, value: str) -> str:
    """A parameter's value as it may leave the node."""
    return HIDDEN if value and SECRET.search(name.lower()) else hide([value])[0] if value else ""


class _Looked(msgspec.Struct):
    is_standby: bool
    clients: dict[str, str | None] | None
    unsynced: list[str]
    pending: list[str]
    file_errors: list[str]
    hba_errors: list[str]
    hba_trust: list[str]
    weak_roles: list[str]
    expiring: dict[str, int]
    archive_failed: str | None
    xid_age: int | None
    mxid_age: int | None
    prepared_s: int | None
    wal_bytes: int | None
    checksum_failures: int | None


class _Active(msgspec.Struct):
    connections: int
    transaction_s: int | None
    idle_in_transaction_s: int | None
    blocked_s: int | None
    conflicts: int | None


async def look(session: Session, *, roles: Iterable[str]) -> Database:
    """As of now. roles: pgherd's own. Raises PostgresError."""

    async def text(statement: LiteralString, *values: str) -> str:
        [found] = await session.row(statement, list(values), timeout_s=READ_S)
        return found or "{}"

    told = msgspec.json.decode(await text(SETTINGS, " ".join(NEEDED.split())))
    settings = {name: shown(name, value or "") for name, value in told.items()}
    number = int(settings["server_version_num"])
    looked = msgspec.json.decode(await text(LOOK, " ".join(roles)), type=_Looked)
    active = msgspec.json.decode(await text(ACTIVITY), type=_Active)
    settings |= {name: shown(name, value or "") for name, value in (looked.clients or {}).items()}
    newer = number >= SPLIT_CHECKPOINTER
    [timed, requested] = await session.row(CHECKPOINTS_NEWER if newer else CHECKPOINTS)
    collations = []
    if number >= KNOWS_COLLATIONS:
        collations = [row[0] or "" for row in await session.rows(COLLATIONS, timeout_s=READ_S)]
    return Database(
        settings=settings,
        is_standby=looked.is_standby,
        version_num=number,
        pending=tuple(looked.pending),
        file_errors=tuple(looked.file_errors),
        hba_errors=tuple(looked.hba_errors),
        hba_trust=tuple(looked.hba_trust),
        unsynced=tuple(looked.unsynced),
        weak_roles=tuple(looked.weak_roles),
        expiring=looked.expiring,
        collations=tuple(collations),
        slots=msgspec.json.decode(await text(SLOTS), type=tuple[Slot, ...]),
        archive_failed=looked.archive_failed or "",
        xid_age=looked.xid_age or 0,
        mxid_age=looked.mxid_age or 0,
        transaction_s=active.transaction_s or 0,
        prepared_s=looked.prepared_s or 0,
        idle_in_transaction_s=active.idle_in_transaction_s or 0,
        blocked_s=active.blocked_s or 0,
        connections=active.connections,
        checksum_failures=looked.checksum_failures or 0,
        conflicts=active.conflicts or 0,
        checkpoints_timed=int(timed or 0),
        checkpoints_requested=int(requested or 0),
        wal_bytes=looked.wal_bytes or 0,
    )
