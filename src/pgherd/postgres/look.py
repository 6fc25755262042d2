"""One look at a running server through SQL: a frozen value, taken in one or two statements.

Owns the queries and their reading. What it means is `observe`'s and the deciders' business.
"""

from __future__ import annotations

from typing import Any, LiteralString

import msgspec

from pgherd.model.ids import Lsn, Position, Term, Timeline, parse_lsn
from pgherd.model.slots import SlotKind, SlotSeen
from pgherd.postgres.conninfo import read as read_pairs
from pgherd.postgres.session import Session
from pgherd.wire.query import Row

PARKED = "RecoveryRetrieveRetryInterval"
STREAM_WAIT = "RecoveryWalStream"
DELAYED = "RecoveryApplyDelay"

LOOK_SQL: LiteralString = """
SELECT r.yes,
  CASE WHEN r.yes THEN NULL ELSE pg_current_wal_flush_lsn()::text END,
  CASE WHEN r.yes THEN NULL ELSE pg_current_wal_insert_lsn()::text END,
  CASE WHEN r.yes THEN NULL ELSE pg_walfile_name(pg_current_wal_insert_lsn()) END,
  pg_last_wal_replay_lsn()::text, pg_last_wal_receive_lsn()::text,
  CASE WHEN r.yes THEN pg_is_wal_replay_paused() ELSE false END,
  (SELECT system_identifier::text FROM pg_control_system()),
  c.timeline_id, c.checkpoint_lsn::text,
  (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
  current_setting('synchronous_standby_names'), current_setting('primary_conninfo'),
  current_setting('primary_slot_name'), extract(epoch FROM pg_postmaster_start_time())::float8,
  (SELECT json_build_array(pid, status, flushed_lsn::text, received_tli, conninfo, slot_name)
     FROM pg_stat_wal_receiver),
  (SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup'),
  (SELECT coalesce(json_agg(json_build_array(pid, application_name, state, sync_state,
       sent_lsn::text, flush_lsn::text, replay_lsn::text, extract(epoch FROM backend_start),
       host(client_addr)) ORDER BY pid), '[]') FROM pg_stat_replication),
  (SELECT coalesce(json_agg(json_build_array(slot_name, slot_type, restart_lsn::text, active,
       wal_status, database, plugin, to_jsonb(s) -> 'failover', to_jsonb(s) -> 'synced', temporary)
       ORDER BY slot_name), '[]') FROM pg_replication_slots AS s),
  pg_size_bytes(nullif(current_setting('max_slot_wal_keep_size'), '-1')),
  CASE WHEN r.yes THEN current_setting('restore_command') ELSE '' END,
  current_setting('server_version_num')::int,
  to_regclass('pgherd.epoch') IS NOT NULL
FROM (SELECT pg_is_in_recovery() AS yes) AS r, pg_control_checkpoint() AS c
"""
WAITING_SQL: LiteralString = """
SELECT count(*) FROM pg_stat_activity WHERE lower(wait_event) IN
  ('walwrite', 'walsync', 'walinitwrite', 'walinitsync', 'walsyncmethodassign', 'walbufmapping')
"""
"""Waits for the device of pg_wal, or for who waits for it; 17 writes the names another way."""

EPOCH_SQL: LiteralString = "SELECT term, leader FROM pgherd.epoch ORDER BY term DESC LIMIT 1"


class ReceiverSeen(msgspec.Struct, frozen=True):
    """The running walreceiver. token, host, port: what it connected with."""

    pid: int
    status: str
    flush_lsn: Lsn
    timeline: Timeline
    token: str
    host: str
    port: int
    slot: str


class SenderSeen(msgspec.Struct, frozen=True):
    """One walsender. started_unix: when its connection began."""

    pid: int
    token: str
    state: str
    sync_state: str
    sent_lsn: Lsn
    flush_lsn: Lsn
    replay_lsn: Lsn
    started_unix: float
    address: str


class Look(msgspec.Struct, frozen=True):
    """What a server says of itself at one moment.

    position = (epoch, replayed end) on a standby, (epoch, flushed end) on a primary · receive_lsn =
    None when nothing was received since the start · upstream_token, host, port = what
    primary_conninfo names · startup_wait = the startup process's wait event · parked = it waits at
    the end of its local WAL · epoch = term of the newest epoch record · slots = of all kinds ·
    fetches = it asks an archive for WAL.
    """

    in_recovery: bool
    system_id: str
    timeline: Timeline
    position: Position
    replay_lsn: Lsn
    receive_lsn: Lsn | None
    flush_lsn: Lsn
    insert_lsn: Lsn
    paused: bool
    checkpoint_lsn: Lsn
    checkpoint_timeline: Timeline
    names: str
    conninfo: str
    upstream_token: str
    upstream_host: str
    upstream_port: int
    slot: str
    started_unix: float
    receiver: ReceiverSeen | None
    startup_wait: str
    senders: tuple[SenderSeen, ...]
    slots: tuple[SlotSeen, ...]
    slot_budget_bytes: int
    epoch: Term
    epoch_leader: str
    version_num: int = 0
    settings_problem: str = ""
    fetches: bool = False

    @property
    def parked(self) -> bool:
        """Whether the startup process waits at the end of local WAL (one sign, not a proof)."""
        return self.startup_wait in (PARKED, STREAM_WAIT)


async def take(session: Session, *, timeout_s: float, settings_problem: str = "") -> Look:
    """Look once."""
    row = await session.row(LOOK_SQL, timeout_s=timeout_s, again=True)
    has_epoch = bool(row[-1])
    epochs = await session.rows(EPOCH_SQL, timeout_s=timeout_s, again=True) if has_epoch else []
    return read(row, epochs[0] if epochs else None, settings_problem=settings_problem)


def read(row: Row, epoch: Row | None, *, settings_problem: str) -> Look:
    """Make a Look from a row of LOOK_SQL and one of EPOCH_SQL."""
    recovering = bool(row[0])
    flush, insert, replay = _lsn(row[1]), _lsn(row[2]), _lsn(row[4])
    receiver = _receiver(row[15])
    term = Term(epoch[0]) if epoch is not None else Term(0)
    token, host, port = upstream_of(row[12])
    if recovering:
        timeline = receiver.timeline if receiver else Timeline(max(row[8], row[10]))
    else:
        timeline = Timeline(int(row[3][:8], 16))
    return Look(
        in_recovery=recovering,
        system_id=row[7],
        timeline=timeline,
        position=Position(term, replay if recovering else flush),
        replay_lsn=replay,
        receive_lsn=_lsn(row[5]) if row[5] is not None else None,
        flush_lsn=flush,
        insert_lsn=insert,
        paused=bool(row[6]),
        checkpoint_lsn=_lsn(row[9]),
        checkpoint_timeline=Timeline(row[8]),
        names=row[11],
        conninfo=row[12],
        upstream_token=token,
        upstream_host=host,
        upstream_port=port,
        slot=row[13],
        started_unix=row[14],
        receiver=receiver,
        startup_wait=row[16] or "",
        senders=tuple(_sender(each) for each in row[17]),
        slots=tuple(_slot(each, copies=recovering) for each in row[18]),
        slot_budget_bytes=row[19] if row[19] is not None else -1,
        version_num=row[21],
        epoch=term,
        epoch_leader=epoch[1] if epoch is not None else "",
        settings_problem=settings_problem,
        fetches=bool(row[20]),
    )


def upstream_of(conninfo: str) -> tuple[str, str, int]:
    """Token, host and port of a connection string; empty where it names none."""
    pairs = read_pairs(conninfo)
    port = pairs.get("port", "")
    token, host = pairs.get("application_name", ""), pairs.get("host", "")
    return token, host, int(port) if port.isdigit() else 0


def _receiver(item: Any) -> ReceiverSeen | None:
    if item is None or item[0] is None:
        return None
    token, host, port = upstream_of(item[4] or "")
    return ReceiverSeen(
        pid=item[0],
        status=item[1] or "",
        flush_lsn=_lsn(item[2]),
        timeline=Timeline(item[3] or 0),
        token=token,
        host=host,
        port=port,
        slot=item[5] or "",
    )


def _sender(item: Any) -> SenderSeen:
    return SenderSeen(
        pid=item[0],
        token=item[1] or "",
        state=item[2] or "",
        sync_state=item[3] or "",
        sent_lsn=_lsn(item[4]),
        flush_lsn=_lsn(item[5]),
        replay_lsn=_lsn(item[6]),
        started_unix=float(item[7]),
        address=item[8] or "",
    )


def _slot(item: Any, *, copies: bool) -> SlotSeen:
    """copies: on a standby; on a primary PostgreSQL goes on calling copies what was one before."""
    return SlotSeen(
        name=item[0],
        kind=SlotKind(item[1]),
        lsn=_lsn(item[2]),
        active=bool(item[3]),
        lost=item[4] == "lost",
        database=item[5] or "",
        plugin=item[6] or "",
        failover=bool(item[7]),
        synced=bool(item[8]) and copies,
        temporary=bool(item[9]),
    )


def _lsn(text: str | None) -> Lsn:
    return parse_lsn(text) if text else Lsn(0)
