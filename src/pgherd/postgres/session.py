"""One SQL session of the agent with its own server, over the Unix socket, that renews itself.

Every wait has a deadline that also holds against a server that hangs: when time is up the socket
is shut down, so that the driver returns at once instead of waiting for a cancel to be answered.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Any, LiteralString

import msgspec
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgherd.postgres.errors import PostgresError
from pgherd.postgres.settings import APPLICATION_NAME

Row = tuple[Any, ...]
Statement = LiteralString | sql.Composed
CONNECT_TIMEOUT_S = 5.0
QUERY_TIMEOUT_S = 5.0


class Login(msgspec.Struct, frozen=True):
    """Where and as whom the agent logs in. socket_dir: the Unix socket's folder."""

    socket_dir: str
    port: int
    user: str
    database: str

    def conninfo(self, *, statement_timeout_ms: int, commit: str) -> str:
        """A connection string that nothing in the environment or in the catalogs changes."""
        options = {
            "search_path": "pg_catalog",
            "synchronous_commit": commit,
            "statement_timeout": str(statement_timeout_ms),
            "lock_timeout": "0",
            "idle_session_timeout": "0",
            "idle_in_transaction_session_timeout": "0",
            "default_transaction_read_only": "off",
            "client_min_messages": "error",
        }
        return make_conninfo(
            host=self.socket_dir,
            port=self.port,
            user=self.user,
            dbname=self.database,
            application_name=APPLICATION_NAME,
            sslmode="disable",
            gssencmode="disable",
            options=" ".join(f"-c {name}={value}" for name, value in options.items()),
        )


class Session:
    """A connection that is opened when it is needed and dropped when it misbehaves.

    Sessions write with synchronous_commit=local unless told otherwise: the agent's own records
    must not wait for standbys (PROTOCOL.md 0.11).
    """

    def __init__(
        self, login: Login, *, commit: str = "local", statement_timeout_ms: int = 5_000
    ) -> None:
        self._conninfo = login.conninfo(statement_timeout_ms=statement_timeout_ms, commit=commit)
        self._connection: psycopg.AsyncConnection[Row] | None = None
        self._lock = asyncio.Lock()

    @property
    def backend_pid(self) -> int:
        """The server process of this session, 0 when it has none."""
        connection = self._connection
        return 0 if connection is None or connection.closed else connection.info.backend_pid

    async def rows(
        self,
        query: Statement,
        parameters: Sequence[Any] | dict[str, Any] = (),
        *,
        timeout_s: float = QUERY_TIMEOUT_S,
    ) -> list[Row]:
        """Run one statement in its own transaction and return its rows."""
        async with self._lock:
            try:
                connection = await self._connected(timeout_s)
                return await self._within(connection, query, parameters, timeout_s)
            except (psycopg.Error, OSError) as error:
                await self._drop_if_broken()
                raise PostgresError(_why(error)) from error
            except BaseException:
                await self._drop()
                raise

    async def row(
        self,
        query: Statement,
        parameters: Sequence[Any] | dict[str, Any] = (),
        *,
        timeout_s: float = QUERY_TIMEOUT_S,
    ) -> Row:
        """Run one statement that returns exactly one row."""
        rows = await self.rows(query, parameters, timeout_s=timeout_s)
        assert len(rows) == 1, f"{len(rows)} rows from {query}"
        return rows[0]

    async def close(self) -> None:
        """End the session; the next statement opens a new one."""
        async with self._lock:
            await self._drop()

    async def _connected(self, timeout_s: float) -> psycopg.AsyncConnection[Row]:
        if self._connection is not None and not self._connection.closed:
            if not _hung_up(self._connection):
                return self._connection
            await self._drop()
        try:
            async with asyncio.timeout(min(timeout_s, CONNECT_TIMEOUT_S)):
                self._connection = await psycopg.AsyncConnection.connect(
                    self._conninfo, autocommit=True
                )
        except TimeoutError as error:
            raise PostgresError("the server took no connection in time") from error
        return self._connection

    async def _within(
        self,
        connection: psycopg.AsyncConnection[Row],
        query: Statement,
        parameters: Sequence[Any] | dict[str, Any],
        timeout_s: float,
    ) -> list[Row]:
        work = asyncio.create_task(_execute(connection, query, parameters))
        try:
            done, _ = await asyncio.wait({work}, timeout=timeout_s)
        except asyncio.CancelledError:
            await _break_off(connection, work)
            raise
        if not done:
            await _break_off(connection, work)
            raise PostgresError(f"no answer within {timeout_s:g} s")
        return work.result()

    async def _drop_if_broken(self) -> None:
        if self._connection is not None and self._connection.broken:
            await self._drop()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


async def _execute(
    connection: psycopg.AsyncConnection[Row],
    query: Statement,
    parameters: Sequence[Any] | dict[str, Any],
) -> list[Row]:
    cursor = await connection.execute(query, parameters or None)
    return await cursor.fetchall() if cursor.description is not None else []


async def _break_off(
    connection: psycopg.AsyncConnection[Row], work: asyncio.Task[list[Row]]
) -> None:
    """Shut the socket down, so that the driver's wait on it ends now, and see it end."""
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as twin:
            twin.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        pass  # it is closed already
    await asyncio.wait({work})
    work.exception()  # seen: the caller reports its own reason


def _hung_up(connection: psycopg.AsyncConnection[Row]) -> bool:
    """Whether the server has ended an idle session (it speaks unasked only to say so)."""
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as twin:
            return twin.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _why(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
