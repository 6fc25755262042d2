"""Proves that real clients and a real PostgreSQL 15 meet through the proxy.

psycopg and psql, plain and TLS, cancels, and bulk data past a reader that stops.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

SERVER_TLS = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
BULK_BYTES = 50_000_000
BULK = "copy (select repeat(md5(i::text), 8) from generate_series(1, 200000) i) to stdout"


def ask(dsn: str, text: str, **options: Any) -> Any:
    with psycopg.connect(dsn, **options) as connection:
        row = connection.execute(text).fetchone()
        assert row is not None
        return row[0]


def digest(dsn: str, *, pauses: int, mode: str) -> tuple[str, int]:
    """MD5 and size of a bulk copy, read with some pauses."""
    found, size, step = hashlib.md5(), 0, 0
    with (
        psycopg.connect(dsn, sslmode=mode) as connection,
        connection.cursor().copy(BULK) as copy,
    ):
        for data in copy:
            found.update(data)
            size += len(data)
            if pauses and size > step:
                step += BULK_BYTES // pauses
                time.sleep(0.4)
    return found.hexdigest(), size


def with_proxy(rig: Any, real: Any, act: Callable[[Any, str], None], **options: Any) -> None:
    """Run a blocking client against a proxy whose primary is the real server."""

    async def scenario() -> None:
        async with rig(**options) as it:
            it.publish(real.backend)
            await it.until_term(1)
            await asyncio.to_thread(act, it, real.dsn(it.port()))

    asyncio.run(scenario())


def test_psycopg_reaches_the_server(rig: Any, real: Any) -> None:
    """A session over plain TCP and one over TLS end to end, which the server confirms."""

    def act(it: Any, dsn: str) -> None:
        assert ask(dsn, SERVER_TLS, sslmode="disable") is False
        assert ask(dsn, SERVER_TLS, sslmode="require") is True
        assert ask(dsn, SERVER_TLS, sslmode="prefer") is True

    with_proxy(rig, real, act)


def test_psql_reaches_the_server(rig: Any, real: Any) -> None:
    """Debian's psql, plain and with TLS required, a COPY in and one out."""

    def act(it: Any, dsn: str) -> None:
        for mode in ("disable", "require"):
            script = "create temp table t (i int);\n\\copy t from stdin\n1\n2\n\\.\n"
            script += "\\copy t to stdout\nselect sum(i) from t;\n"
            done = subprocess.run(
                ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", f"{dsn} sslmode={mode}"],
                input=script, text=True, capture_output=True, timeout=20,
            )  # fmt: skip
            assert done.stdout.split() == ["1", "2", "3"], done.stderr

    with_proxy(rig, real, act)


@pytest.mark.parametrize("mode", ["disable", "require"])
def test_bulk_out_past_a_paused_reader_is_whole(rig: Any, real: Any, mode: str) -> None:
    """50 MB of COPY TO with a reader that stops now and then: same bytes, and bounded memory."""

    def act(it: Any, dsn: str) -> None:
        direct = digest(real.dsn(), pauses=0, mode=mode)
        assert direct[1] >= BULK_BYTES
        assert digest(dsn, pauses=0, mode=mode) == direct
        assert digest(dsn, pauses=4, mode=mode) == direct

    with_proxy(rig, real, act)


def test_bulk_in_arrives_whole(rig: Any, real: Any) -> None:
    """50 MB of COPY FROM: the server computes the same digest over what arrived."""
    line = b"x" * 999 + b"\n"

    def act(it: Any, dsn: str) -> None:
        with psycopg.connect(dsn, sslmode="disable") as connection:
            connection.execute("create temp table bulk (n serial, v text)")
            with connection.cursor().copy("copy bulk (v) from stdin") as copy:
                for _ in range(BULK_BYTES // len(line)):
                    copy.write(line)
            row = connection.execute("select count(*), md5(string_agg(v, '')) from bulk")
            count, digest = row.fetchone() or (0, "")
        assert count == BULK_BYTES // len(line)
        assert digest == hashlib.md5(line[:-1] * count).hexdigest()

    with_proxy(rig, real, act)


def test_a_stopped_reader_costs_bounded_memory(rig: Any, real: Any) -> None:
    """Ten clients that stop reading in the middle of a COPY: the proxy grows by little."""

    async def scenario() -> None:
        async with rig() as it:
            it.publish(real.backend)
            before = await it.until(lambda now: now.term == 1 and now.rss_bytes > 0)
            clients = [await asyncio.to_thread(stopped_reader, it.port()) for _ in range(10)]
            seen = -1
            while seen != (now := it.control.counters()).bytes_from_servers or seen <= 0:
                seen = now.bytes_from_servers
                await asyncio.sleep(1.2)
            grown = now.rss_bytes - before.rss_bytes
            assert grown < 10 * 300_000, f"{grown} bytes for 10 stopped readers"
            for client in clients:
                client.close()
            await it.until(lambda now: not now.sessions)

    asyncio.run(scenario())


def stopped_reader(port: int) -> socket.socket:
    """Start a big COPY and read nothing of it."""
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    body = (196608).to_bytes(4, "big") + b"user\0postgres\0database\0postgres\0\0"
    client.sendall((4 + len(body)).to_bytes(4, "big") + body)
    while b"Z\x00\x00\x00\x05I" not in client.recv(4096):
        pass
    text = BULK.encode() + b"\0"
    client.sendall(b"Q" + (4 + len(text)).to_bytes(4, "big") + text)
    return client


@pytest.mark.parametrize("mode", ["disable", "require"])
def test_a_cancel_reaches_the_statement(rig: Any, real: Any, mode: str) -> None:
    """pg_sleep is cancelled through the proxy by libpq 17 and later, which asks for TLS first."""

    def act(it: Any, dsn: str) -> None:
        with psycopg.connect(dsn, sslmode=mode) as connection:
            began = time.monotonic()
            timer = threading.Timer(0.5, connection.cancel_safe)
            timer.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute("select pg_sleep(30)")
            assert time.monotonic() - began < 5
            timer.join()

    with_proxy(rig, real, act)


def test_an_interrupted_psql_cancels(rig: Any, real: Any) -> None:
    """SIGINT to psql: a CancelRequest in the clear (libpq 15), also for a TLS session."""

    def act(it: Any, dsn: str) -> None:
        for mode in ("disable", "require"):
            with subprocess.Popen(
                ["psql", "-Xq", f"{dsn} sslmode={mode}", "-c", "select pg_sleep(30)"],
                stderr=subprocess.PIPE,
            ) as psql:
                until_sleeping(real)
                psql.send_signal(signal.SIGINT)
                _, errors = psql.communicate(timeout=5)
            assert b"canceling statement due to user request" in errors

    with_proxy(rig, real, act)


def until_sleeping(real: Any) -> None:
    active = "select count(*) from pg_stat_activity where query = 'select pg_sleep(30)'"
    deadline = time.monotonic() + 10
    while not ask(real.dsn(), active + " and state = 'active'"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_servers_farewell_reaches_the_client(rig: Any, real: Any) -> None:
    """pg_terminate_backend: the client sees the server's own 57P01, not a reset."""

    def act(it: Any, dsn: str) -> None:
        with psycopg.connect(dsn, sslmode="disable") as connection:
            pid = connection.info.backend_pid
            ask(real.dsn(), f"select pg_terminate_backend({pid})")
            with pytest.raises(psycopg.errors.AdminShutdown):
                connection.execute("select 1")

    with_proxy(rig, real, act)


def test_libpq_shows_why_there_is_no_primary(rig: Any, real: Any) -> None:
    """psql without a primary, asking for TLS first as it does by default: our text arrives."""

    async def scenario() -> None:
        async with rig(connect_timeout_ms=300) as it:
            it.publish(None, term=3)
            await it.until_term(3)
            done = await asyncio.to_thread(
                subprocess.run,
                ["psql", "-X", real.dsn(it.port()), "-c", "select 1"],
                capture_output=True, text=True, timeout=10,
            )  # fmt: skip
            assert "pgherd: the cluster has no primary now (term 3)" in done.stderr
            assert "pgherd status" in done.stderr

    asyncio.run(scenario())


@pytest.mark.skipif(shutil.which("pgbench") is None, reason="needs pgbench")
def test_pgbench_runs_through(rig: Any, real: Any) -> None:
    """Eight clients, prepared statements, and a connection per transaction."""
    env = {**os.environ, "PGSSLMODE": "disable"}

    def act(it: Any, dsn: str) -> None:
        script = Path(it.path.parent) / "one.sql"
        script.write_text("select 1;\n")
        for more in (["-M", "prepared", "-t", "300"], ["-C", "-t", "10"]):
            done = subprocess.run(
                ["pgbench", "-n", "-c", "8", "-h", "127.0.0.1", "-p", str(it.port()),
                 "-U", "postgres", "-f", script, *more, "postgres"],
                capture_output=True, text=True, timeout=60, env=env,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert "number of failed transactions: 0" in done.stdout

    with_proxy(rig, real, act)


def test_the_unix_socket_of_a_local_server_works(rig: Any, real: Any) -> None:
    """A backend whose host is a path: sessions, TLS refused there as libpq expects, cancels."""

    async def scenario() -> None:
        async with rig() as it:
            it.publish(msgspec.structs.replace(real.backend, host=str(real.folder)))
            await it.until_term(1)
            local = "select inet_client_addr() is null"
            assert await asyncio.to_thread(ask, real.dsn(it.port()), local) is True

    asyncio.run(scenario())


def test_the_pure_python_loop_carries_the_same(rig: Any, real: Any) -> None:
    """Without uvloop: a session, a bulk copy with a paused reader, a cancel."""

    def act(it: Any, dsn: str) -> None:
        direct = digest(real.dsn(), pauses=0, mode="disable")
        assert digest(dsn, pauses=3, mode="disable") == direct
        assert digest(dsn, pauses=0, mode="require") == direct
        with psycopg.connect(dsn) as connection:
            timer = threading.Timer(0.3, connection.cancel_safe)
            timer.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute("select pg_sleep(30)")
            timer.join()

    with_proxy(rig, real, act, loop="asyncio")
