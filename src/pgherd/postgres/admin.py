"""What the agent does inside a running primary: epoch records, gate, roles, walsenders.

Each function speaks through the server's acting session, which commits locally: the agent's own
records never wait for standbys (PROTOCOL.md 0.11). Doing any of them twice is safe.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, LiteralString

from pgherd.model.errors import PostgresError
from pgherd.model.ids import Lsn, NodeId, Term, parse_lsn
from pgherd.postgres.look import EPOCH_SQL, SenderSeen
from pgherd.postgres.sealing import end_backends
from pgherd.postgres.session import Session
from pgherd.postgres.settings import CLOSED_NAMES
from pgherd.postgres.statement import compose, identifier, literal
from pgherd.wire import scram

if TYPE_CHECKING:
    from pgherd.postgres.server import PostgresServer

GATE_TIMEOUT_S = 5.0
GATE_POLL_S = 0.005
SENDER_GONE_MS = 1_000
COMMIT_PROBE_TIMEOUT_S = 5.0
COMMIT_WAIT_S_MAX = 86_400.0
COMMIT_PROBE_SQL: LiteralString = (
    "SELECT pg_logical_emit_message(true, 'pgherd', 'does a commit wait?')"
)
REWIND_FUNCTIONS: tuple[LiteralString, ...] = (
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
)
EPOCH_TABLE: LiteralString = """
CREATE SCHEMA IF NOT EXISTS pgherd;
CREATE TABLE IF NOT EXISTS pgherd.epoch (
  term bigint PRIMARY KEY, leader text NOT NULL, at timestamptz NOT NULL DEFAULT now())
"""


async def write_epoch(server: PostgresServer, term: Term, leader: NodeId) -> Lsn:
    """Write the epoch record of a term; return a flushed position at or behind its end."""
    session = server.acting
    (exists,) = await session.row("SELECT to_regclass('pgherd.epoch') IS NOT NULL")
    if not exists:
        await session.rows(EPOCH_TABLE)
    newest = await session.rows(EPOCH_SQL)
    if newest and newest[0][0] > term:
        raise PostgresError(f"the WAL holds an epoch record of term {newest[0][0]}, above {term}")
    if newest and newest[0][0] == term and newest[0][1] != leader:
        raise PostgresError(f"term {term} already has an epoch record of {newest[0][1]}")
    await session.rows(
        "INSERT INTO pgherd.epoch (term, leader) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        [term, leader],
    )
    (end,) = await session.row("SELECT pg_current_wal_flush_lsn()::text")
    return parse_lsn(end)


async def close_gate(server: PostgresServer, *, timeout_s: float = GATE_TIMEOUT_S) -> int:
    """Closed names, then every client's session ended; return how many there were."""
    await server.set_names(CLOSED_NAMES)
    ended = await end_backends(server)
    deadline = asyncio.get_running_loop().time() + timeout_s
    while left := await _client_backends(server):
        if asyncio.get_running_loop().time() > deadline:
            raise PostgresError(f"client sessions {left} do not end")
        await asyncio.sleep(GATE_POLL_S)
        ended += await end_backends(server)
    return ended


async def _client_backends(server: PostgresServer) -> list[int]:
    rows = await server.acting.rows(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> ALL($1)",
        [server.own_pids()],
    )
    return [pid for (pid,) in rows]


async def terminate_walsenders(
    server: PostgresServer, which: Callable[[SenderSeen], bool]
) -> tuple[SenderSeen, ...]:
    """End the walsenders that a predicate picks; raises PostgresError when one does not go."""
    seen = await server.look()
    chosen = tuple(sender for sender in seen.senders if which(sender))
    for sender in chosen:
        await server.acting.rows(
            "SELECT pg_terminate_backend($1, $2)", [sender.pid, SENDER_GONE_MS]
        )
    ended = {sender.pid for sender in chosen}
    if ended:
        left = [sender.pid for sender in (await server.look()).senders if sender.pid in ended]
        if left:
            raise PostgresError(f"walsenders {left} do not end")
    return chosen


class CommitDidNotWait(PostgresError):
    """The names are closed, and PostgreSQL's checkpointer has not seen it yet."""


class WaitingCommit:
    """A commit of our own that was seen to wait for standbys; it waits until it is released."""

    def __init__(self, server: PostgresServer, session: Session) -> None:
        self._server = server
        self._session = session
        self.pid = session.backend_pid
        self._task = asyncio.create_task(
            session.rows(COMMIT_PROBE_SQL, timeout_s=COMMIT_WAIT_S_MAX)
        )

    @property
    def is_waiting(self) -> bool:
        """Whether it still waits; False once standbys confirmed it or it was released."""
        return not self._task.done()

    async def release(self) -> None:
        """Give the commit up. Its backend has to be told: in its wait it sees no closed socket."""
        try:
            if self.is_waiting:
                await self._server.acting.rows("SELECT pg_terminate_backend($1)", [self.pid])
        finally:
            self._task.cancel()
            await asyncio.wait({self._task})
            await self._session.close()


async def commit_waits_probe(
    server: PostgresServer, *, timeout_s: float = COMMIT_PROBE_TIMEOUT_S
) -> WaitingCommit:
    """Prove that a commit waits for standbys now: start one and see it wait (PROTOCOL.md 0.10)."""
    session = Session(server.login, commit="on", statement_timeout_ms=0)
    await session.rows("SELECT 1")
    waiting = WaitingCommit(server, session)
    try:
        await _see_waiting(server, waiting, timeout_s)
    except BaseException:
        await waiting.release()
        raise
    return waiting


async def _see_waiting(server: PostgresServer, waiting: WaitingCommit, timeout_s: float) -> None:
    deadline = asyncio.get_running_loop().time() + timeout_s
    while asyncio.get_running_loop().time() < deadline:
        rows = await server.acting.rows(
            "SELECT wait_event FROM pg_stat_activity WHERE pid = $1", [waiting.pid]
        )
        if rows and rows[0][0] == "SyncRep":
            return
        if not waiting.is_waiting:
            raise CommitDidNotWait("a commit did not wait for standbys")
        await asyncio.sleep(GATE_POLL_S)
    raise PostgresError("a commit was not seen to wait for standbys")


async def ensure_roles(server: PostgresServer) -> tuple[str, ...]:
    """Have the replication and the rewind role with their passwords; return what was changed."""
    settings = server.settings
    changed = [
        await _ensure_role(
            server, settings.replication_role, settings.replication_password, replication=True
        ),
        await _ensure_role(
            server, settings.rewind_role, settings.rewind_password, replication=False
        ),
        await _ensure_rewind_rights(server, settings.rewind_role),
        await _ensure_password(server, settings.superuser, settings.superuser_password),
    ]
    for one in settings.beside:
        changed.append(
            await _ensure_role(server, one.role, one.password, replication=one.replication)
        )
        if not one.replication:
            changed.append(await _ensure_rewind_rights(server, one.role))
    changed += [await _end_login(server, role) for role in settings.ended]
    return tuple(text for text in changed if text)


async def _ensure_password(server: PostgresServer, role: str, password: str) -> str:
    """Give the superuser its configured password, for people; we come in without one."""
    if not password:
        return ""
    rows = await server.acting.rows(
        "SELECT coalesce(rolpassword, '') FROM pg_authid WHERE rolname = $1", [role]
    )
    is_verifier = scram.parse(password) is not None
    if rows and (rows[0][0] == password if is_verifier else scram.matches(rows[0][0], password)):
        return ""
    secret = password
    if not is_verifier:
        secret = scram.verifier(password, salt=secrets.token_bytes(scram.SALT_BYTES))
    statement = compose("ALTER ROLE {} PASSWORD {}", identifier(role), literal(secret))
    await server.acting.rows(statement)
    return f"password of {role} set"


async def _end_login(server: PostgresServer, role: str) -> str:
    """A role whose password is a former one: it goes on with what it has begun."""
    rows = await server.acting.rows(
        "SELECT rolcanlogin OR rolpassword IS NOT NULL FROM pg_authid WHERE rolname = $1", [role]
    )
    if not rows or not rows[0][0]:
        return ""
    await server.acting.rows(compose("ALTER ROLE {} NOLOGIN PASSWORD NULL", identifier(role)))
    return f"{role} may log in no more"


async def _ensure_role(
    server: PostgresServer, role: str, password: str, *, replication: bool
) -> str:
    rows = await server.acting.rows(
        "SELECT coalesce(rolpassword, ''), rolreplication, rolcanlogin FROM pg_authid "
        "WHERE rolname = $1",
        [role],
    )
    if rows and scram.matches(rows[0][0], password) and rows[0][1:] == (replication, True):
        return ""
    secret = scram.verifier(password, salt=secrets.token_bytes(scram.SALT_BYTES))
    statement = compose(
        "{} ROLE {} LOGIN {} PASSWORD {}",
        "ALTER" if rows else "CREATE",
        identifier(role),
        "REPLICATION" if replication else "NOREPLICATION",
        literal(secret),
    )
    await server.acting.rows(statement)
    return f"{'changed' if rows else 'created'} role {role}"


async def _ensure_rewind_rights(server: PostgresServer, role: str) -> str:
    granted = 0
    for function in REWIND_FUNCTIONS:
        (may,) = await server.acting.row(
            "SELECT has_function_privilege($1, $2, 'EXECUTE')", [role, function]
        )
        if not may:
            await server.acting.rows(
                compose("GRANT EXECUTE ON FUNCTION pg_catalog.{} TO {}", function, identifier(role))
            )
            granted += 1
    return f"granted pg_rewind's functions to {role}" if granted else ""
