"""One SQL session of the agent with its own server, over the Unix socket, that renews itself.

Owns the connection and its deadlines, which also hold against a server that hangs: when time is up
the connection is cut. What is said on it is `wire.query`'s.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec

from pgherd.model.errors import PostgresError
from pgherd.postgres.launch import socket_path
from pgherd.postgres.settings import APPLICATION_NAME
from pgherd.postgres.statement import Statement
from pgherd.wire import query
from pgherd.wire.query import Answers, Row, ServerError, Value
from pgherd.wire.startup import ProtocolViolation

CONNECT_TIMEOUT_S = 5.0
QUERY_TIMEOUT_S = 5.0


class Login(msgspec.Struct, frozen=True):
    """Where and as whom the agent logs in. socket_dir: the Unix socket's folder."""

    socket_dir: str
    port: int
    user: str
    database: str

    def startup(self, *, statement_timeout_ms: int, commit: str) -> dict[str, str]:
        """Startup parameters that nothing in the environment or in the catalogs changes."""
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
        return {
            "user": self.user,
            "database": self.database,
            "application_name": APPLICATION_NAME,
            "client_encoding": "UTF8",
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
        }


class Session:
    """A connection that is opened when it is needed and dropped when it misbehaves.

    Sessions write with synchronous_commit=local unless told otherwise: the agent's own records
    must not wait for standbys (PROTOCOL.md 0.11).
    """

    def __init__(
        self, login: Login, *, commit: str = "local", statement_timeout_ms: int = 5_000
    ) -> None:
        self._path = socket_path(Path(login.socket_dir), login.port)
        self._startup = login.startup(statement_timeout_ms=statement_timeout_ms, commit=commit)
        self._talk: Talk | None = None
        self._lock = asyncio.Lock()

    @property
    def backend_pid(self) -> int:
        """The server process of this session, 0 when it has none."""
        talk = self._talk
        return 0 if talk is None or talk.is_over else talk.backend_pid

    async def rows(
        self,
        statement: Statement,
        values: Sequence[Value] = (),
        *,
        timeout_s: float = QUERY_TIMEOUT_S,
        again: bool = False,
    ) -> list[Row]:
        """Run one statement in its own transaction and return its rows.

        values: for $1, $2, ... · again: it will come often, so the server shall keep its plan.
        Raises PostgresError.
        """
        async with self._lock:
            try:
                talk = await self._connected(timeout_s)
                async with asyncio.timeout(timeout_s):
                    return await talk.ask(statement, values, again=again)
            except TimeoutError as error:
                self._drop()
                raise PostgresError(f"no answer within {timeout_s:g} s") from error
            except ServerError as error:
                if error.fatal:
                    self._drop()
                raise PostgresError(str(error)) from error
            except (OSError, ProtocolViolation) as error:
                self._drop()
                raise PostgresError(self._why(error)) from error
            except BaseException:
                self._drop()
                raise

    async def row(
        self,
        statement: Statement,
        values: Sequence[Value] = (),
        *,
        timeout_s: float = QUERY_TIMEOUT_S,
        again: bool = False,
    ) -> Row:
        """Run one statement that returns exactly one row."""
        rows = await self.rows(statement, values, timeout_s=timeout_s, again=again)
        if len(rows) != 1:
            raise PostgresError(f"{len(rows)} rows where one was expected")
        return rows[0]

    async def close(self) -> None:
        """End the session; the next statement opens a new one."""
        async with self._lock:
            if self._talk is not None:
                self._talk.goodbye()
            self._drop()

    async def _connected(self, timeout_s: float) -> Talk:
        if self._talk is not None and not self._talk.is_over:
            return self._talk
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(min(timeout_s, CONNECT_TIMEOUT_S)):
                _, self._talk = await loop.create_unix_connection(Talk, self._path)
                await self._talk.begin(self._startup)
        except TimeoutError as error:
            self._drop()
            raise PostgresError("the server took no connection in time") from error
        return self._talk

    def _why(self, error: OSError | ProtocolViolation) -> str:
        code = error.errno if isinstance(error, OSError) else None
        return f"{self._path}: {os.strerror(code).lower() if code else error}"

    def _drop(self) -> None:
        talk, self._talk = self._talk, None
        if talk is not None:
            talk.cut()


class Talk(asyncio.Protocol):
    """One connection: one request at a time, each with its answer."""

    def __init__(self) -> None:
        self.is_over = False
        self._answers = Answers()
        self._waiting: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._kept: dict[str, str] = {}
        self._names = 0

    @property
    def backend_pid(self) -> int:
        """The server process at the other end."""
        return self._answers.backend_pid

    async def begin(self, parameters: dict[str, str]) -> None:
        """Open the session. Raises ServerError, OSError, ProtocolViolation."""
        await self._exchange(query.startup(parameters))

    async def ask(self, statement: Statement, values: Sequence[Value], *, again: bool) -> list[Row]:
        """Run a statement. Raises ServerError, OSError, ProtocolViolation."""
        if not again:
            if not values:
                return await self._exchange(query.simple(statement))
            return await self._exchange(query.prepare("", statement) + query.run("", values))
        name = self._kept.get(statement)
        if name is not None:
            return await self._exchange(query.run(name, values))
        self._names += 1
        name = f"s{self._names}"
        rows = await self._exchange(query.prepare(name, statement) + query.run(name, values))
        self._kept[statement] = name
        return rows

    async def _exchange(self, request: bytes) -> list[Row]:
        if self.is_over or self._transport is None:
            raise ConnectionResetError("the server closed the connection")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            await self._waiting
        finally:
            self._waiting = None
        return self._answers.take()

    def goodbye(self) -> None:
        """Tell the server that this is the end."""
        if self._transport is not None and not self.is_over:
            self._transport.write(query.TERMINATE)
            self._transport.close()
        self.is_over = True

    def cut(self) -> None:
        """Close at once, whatever is under way."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()
        self.is_over = True

    # --- what the loop calls -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Collect an answer; whatever comes unasked only says why the session ends."""
        try:
            if self._answers.feed(data):
                self._answered(None)
        except ProtocolViolation as error:
            self._answered(error)
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:
        """The session is over, and so is a wait on it."""
        self.is_over = True
        self._answered(exc or ConnectionResetError("the server closed the connection"))

    def _answered(self, error: Exception | None) -> None:
        waiting = self._waiting
        if waiting is None or waiting.done():
            return
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)
