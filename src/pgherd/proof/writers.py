"""Concurrent clients that insert one row per transaction and remember exactly what they were told.

Owns the load of a run: N writers on a thread of their own (so that whoever breaks the cluster never
delays them), each with one write under way at a time, and the reading of the rows in the end.
Leaves the judgement to `history`.

What counts as what:
  - *acknowledged*: the server said so, with everything up to its ReadyForQuery received;
  - *refused*: the server answered with an ERROR, which aborts the transaction;
  - *indeterminate*: everything else after the statement was sent: connection lost, FATAL, deadline
    passed. Nothing is sent again; only reading the rows in the end resolves it.
A deadline cuts the connection and never cancels the statement: a cancel during the synchronous wait
would release an unreplicated commit as a success (PROTOCOL.md 0.5). The statement goes as a simple
query, so the server commits before it says CommandComplete.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Self, TypeVar

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgherd.proof.history import Attempt, History, Mark, Outcome, Row, WriteId

T = TypeVar("T")

TABLE = "pgherd_proof_writes"
BACK_OFF_S = (0.02, 0.05)
"""Pause after a failed connection, drawn between these."""

ENCODING = "UTF8"

CREATE = f"""
CREATE TABLE {TABLE} (
    writer int NOT NULL,
    seq bigint NOT NULL,
    after bigint NOT NULL,
    lsn pg_lsn NOT NULL DEFAULT pg_current_wal_insert_lsn(),
    PRIMARY KEY (writer, seq))
"""
INSERT = (
    f"INSERT INTO {TABLE} (writer, seq, after) SELECT {{writer}}, {{seq}}, "
    f"coalesce(max(seq), 0) FROM {TABLE} WHERE writer = {{writer}}"
)
READ = f"SELECT writer, seq, after, (lsn - '0/0')::bigint FROM {TABLE}"


class Pace(msgspec.Struct, frozen=True):
    """How fast the writers go and how long they wait; per writer.

    looks_elsewhere: whether a read-only server is left for another of the same string.
    """

    writes_per_second: float = 40.0
    statement_deadline_s: float = 2.0
    connect_deadline_s: float = 1.0
    looks_elsewhere: bool = True


def dsn_of(
    *,
    hosts: list[tuple[str, int]],
    user: str,
    password: str,
    database: str = "postgres",
    read_write: bool = True,
) -> str:
    """Write a multi-host connection string; read_write looks for the primary among the hosts."""
    more = {"target_session_attrs": "read-write"} if read_write else {}
    return make_conninfo(
        "",
        host=",".join(host for host, _ in hosts),
        port=",".join(str(port) for _, port in hosts),
        user=user,
        password=password,
        dbname=database,
        connect_timeout=2,
        gssencmode="disable",
        client_encoding=ENCODING,
        application_name="pgherd-proof",
        **more,
    )


def insert(id: WriteId) -> str:
    """The statement of one write."""
    return INSERT.format(writer=id.writer, seq=id.seq)


def create_table(dsn: str, *, deadline_s: float = 30.0) -> None:
    """Make an empty table for a run; the one of an earlier run is dropped."""

    def create(connection: psycopg.Connection[tuple[object, ...]]) -> None:
        connection.execute(f"DROP TABLE IF EXISTS {TABLE}; {CREATE}".encode())

    retry(dsn, create, deadline_s=deadline_s)


def read_rows(dsn: str, *, deadline_s: float = 30.0) -> list[Row]:
    """Read what is there, from the heap itself (an index would hide a duplicate)."""

    def read(connection: psycopg.Connection[tuple[object, ...]]) -> list[Row]:
        connection.execute(b"SET enable_indexscan = off; SET enable_indexonlyscan = off")
        connection.execute(b"SET enable_bitmapscan = off")
        found = connection.execute(READ.encode()).fetchall()
        return [
            Row(WriteId(int(str(w)), int(str(s))), int(str(after)), int(str(lsn)))
            for w, s, after, lsn in found
        ]

    return retry(dsn, read, deadline_s=deadline_s)


class Writers:
    """N writers against connection strings in turn: `start`, any number of `mark`s, `stop`."""

    def __init__(
        self,
        dsn: str | Sequence[str],
        *,
        count: int = 4,
        pace: Pace | None = None,
        first: int = 1,
        statement: Callable[[WriteId], str] = insert,
    ) -> None:
        """first: the number of the first writer, where others write into the same table."""
        self._pace = pace or Pace()
        dsns = [dsn] if isinstance(dsn, str) else dsn
        self._writers = [
            _Writer(dsns[n % len(dsns)], number=first + n, pace=self._pace, statement=statement)
            for n in range(count)
        ]
        self._marks: list[Mark] = []
        self._began = 0.0
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def begin(self) -> None:
        """Begin to write, whatever comes of it."""
        assert self._thread is None, "writers are started once"
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="proof-writers", daemon=True)
        self._thread.start()

    def start(self, *, deadline_s: float = 30.0) -> None:
        """Begin to write; return when every writer has its first acknowledgement."""
        self.begin()
        assert self._thread is not None
        until = self._began + deadline_s
        while not all(writer.acknowledged for writer in self._writers):
            if time.monotonic() > until or not self._thread.is_alive():
                troubles = {writer.trouble for writer in self._writers}
                self.stop()
                raise TimeoutError(f"not every writer got a write through: {troubles}")
            time.sleep(0.02)

    def mark(self, label: str) -> float:
        """Remember that something is done to the cluster now."""
        self._marks.append(Mark(label, time.monotonic()))
        return self._marks[-1].at

    def acknowledged(self) -> int:
        """How many writes were acknowledged so far."""
        return sum(writer.acknowledged for writer in self._writers)

    def idle_s(self) -> float:
        """How long ago the last acknowledgement came."""
        return time.monotonic() - max(writer.last_acknowledged for writer in self._writers)

    def history(self) -> History:
        """What is known so far; complete only after `stop`."""
        attempts = [attempt for writer in self._writers for attempt in list(writer.attempts)]
        return History(
            attempts=tuple(attempts),
            began=self._began,
            ended=time.monotonic(),
            marks=tuple(self._marks),
            connect_failures=sum(writer.connect_failures for writer in self._writers),
        )

    def stop(self) -> History:
        """End with a last write of each, or give it up at its deadline."""
        history = self.history()
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(self._pace.statement_deadline_s + self._pace.connect_deadline_s + 5)
            assert not self._thread.is_alive(), "a writer did not end"
        if self._failure is not None:
            raise self._failure
        return msgspec.structs.replace(self.history(), ended=history.ended)

    def _run(self) -> None:
        try:
            asyncio.run(self._write_all())
        except BaseException as error:
            self._failure = error

    async def _write_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for writer in self._writers:
                group.create_task(writer.run(self._stopping))


class _Writer:
    """One client: connects, inserts, waits for its turn; reconnects after any loss."""

    def __init__(
        self, dsn: str, *, number: int, pace: Pace, statement: Callable[[WriteId], str]
    ) -> None:
        self._statement = statement
        self._parameters = conninfo_to_dict(dsn)
        self._number = number
        self._pace = pace
        self._random = random.Random(number)
        self._connection: psycopg.AsyncConnection[tuple[object, ...]] | None = None
        self.attempts: list[Attempt] = []
        self.acknowledged = 0
        self.last_acknowledged = time.monotonic()
        self.connect_failures = 0
        self._hung = ("", "")
        self.trouble = ""

    async def run(self, stopping: threading.Event) -> None:
        """Write until told to stop, and then once more: it ends a gap, or shows that none ended."""
        turn = time.monotonic()
        try:
            while True:
                connection = self._connection or await self._connect()
                if connection is not None:
                    self.attempts.append(await self._write(connection))
                if stopping.is_set():
                    return
                if connection is None:
                    await asyncio.sleep(self._random.uniform(*BACK_OFF_S))
                    continue
                turn = max(turn + 1 / self._pace.writes_per_second, time.monotonic())
                await asyncio.sleep(turn - time.monotonic())
        finally:
            await self._drop()

    async def _connect(self) -> psycopg.AsyncConnection[tuple[object, ...]] | None:
        try:
            async with asyncio.timeout(self._pace.connect_deadline_s):
                self._connection = await psycopg.AsyncConnection.connect(
                    make_conninfo("", **self._parameters), autocommit=True
                )
        except TimeoutError:
            self._failed("connect deadline passed")
            self._rotate_hosts()
        except psycopg.Error as error:
            self._failed(str(error))
        return self._connection

    def _failed(self, why: str) -> None:
        self.connect_failures += 1
        self.trouble = why

    def _rotate_hosts(self) -> None:
        """Begin with another host next time: the first one may hang rather than refuse.

        One that was seen to hang in the middle of a write comes last.
        """
        hosts, ports = (str(self._parameters.get(key, "")).split(",") for key in ("host", "port"))
        pairs = list(zip(hosts, ports, strict=False))
        hung = [pair for pair in pairs if pair == self._hung] or pairs[:1]
        pairs = [pair for pair in pairs if pair not in hung] + hung
        self._parameters["host"] = ",".join(host for host, _ in pairs)
        self._parameters["port"] = ",".join(port for _, port in pairs)

    async def _write(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> Attempt:
        id = WriteId(self._number, len(self.attempts) + 1)
        statement = self._statement(id).encode()
        loop = asyncio.get_running_loop()
        deadline = loop.call_later(self._pace.statement_deadline_s, cut, connection)
        outcome, detail, reply = Outcome.INDETERMINATE, "", ""
        started = time.monotonic()
        try:
            cursor = await connection.execute(statement, prepare=False)
            outcome, reply = Outcome.ACKNOWLEDGED, await _reply(cursor)
        except psycopg.Error as error:
            outcome, detail = classify(error)
        finally:
            deadline.cancel()
        finished = time.monotonic()
        if outcome is Outcome.ACKNOWLEDGED:
            self.acknowledged += 1
            self.last_acknowledged = finished
        elif outcome is Outcome.INDETERMINATE or self._is_elsewhere(detail):
            if finished - started >= self._pace.statement_deadline_s:
                self._hung = connection.info.host, str(connection.info.port)
                self._rotate_hosts()
            await self._drop()
        if detail:
            self.trouble = detail
        return Attempt(id, started, finished, outcome, detail, reply)

    def _is_elsewhere(self, detail: str) -> bool:
        return self._pace.looks_elsewhere and detail.startswith("25006")

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def classify(error: psycopg.Error) -> tuple[Outcome, str]:
    """What is certain after an error: only an ERROR of the server itself is a refusal.

    Class 08 and 40003 say that the outcome is unknown; FATAL and PANIC may follow a commit.
    """
    state = error.sqlstate or ""
    severity = error.diag.severity_nonlocalized or ""
    text = f"{state} {error}".strip().splitlines()[0]
    unknown = not state or severity != "ERROR" or state.startswith("08") or state == "40003"
    return (Outcome.INDETERMINATE if unknown else Outcome.REFUSED), text


async def _reply(cursor: psycopg.AsyncCursor[tuple[object, ...]]) -> str:
    """What the server returned with its success, if the statement asked for anything."""
    if not cursor.description:
        return ""
    row = await cursor.fetchone()
    return " ".join(map(str, row or ()))


def cut(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
    """End the conversation without a word: the other side sees a closed connection."""
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        pass  # it is closed already


def retry(
    dsn: str,
    work: Callable[[psycopg.Connection[tuple[object, ...]]], T],
    *,
    deadline_s: float,
) -> T:
    """Do idempotent work on a fresh connection until it succeeds."""
    until = time.monotonic() + deadline_s
    while True:
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                return work(connection)
        except psycopg.Error:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
