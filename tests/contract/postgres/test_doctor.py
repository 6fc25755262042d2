"""Checks of PostgreSQL are red on real servers with the fault, of both versions.

One server is started with every setting wrong at once; the other one has what people and time do:
sessions that wait, slots without readers, broken files, a page that is not what was written.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from pgherd.model.checkup import Agent, Database, Finding, Machine, NodeFacts, Process, Told
from pgherd.model.facts import Kind
from pgherd.model.ids import NodeId
from pgherd.observe.doctor import database
from pgherd.plan.doctor import activity, checks, disks
from pgherd.plan.doctor import machine as machine_checks
from pgherd.plan.doctor import server as server_checks
from pgherd.postgres.datadir import running_pid
from pgherd.postgres.tools import run_tool
from pgherd.proof.covering import could_not, covered

pytestmark = pytest.mark.cluster

ROLES = ("postgres", "pgherd_replication", "pgherd_rewind")

WRONG = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "wal_log_hints": "off",
    "hot_standby": "off",
    "autovacuum": "off",
    "track_counts": "off",
    "superuser_reserved_connections": "0",
    "max_slot_wal_keep_size": "-1",
    "ssl": "off",
    "archive_mode": "off",
    "log_lock_waits": "off",
    "log_statement": "all",
    "idle_in_transaction_session_timeout": "0",
    "listen_addresses": "localhost",
}


async def look(server: Any) -> Database:
    """Through the agent's own session."""
    return await database.look(server.reading, roles=ROLES)


def judged(seen: Database) -> dict[str, Finding]:
    """Of a member of two, each on a machine of its own."""
    facts = NodeFacts(
        node=NodeId("a"),
        kind=Kind.DATA,
        version="1",
        database=seen,
        told=Told(address="10.0.0.1"),
        agent=Agent(hosts={NodeId("a"): "10.0.0.1", NodeId("b"): "10.0.0.2"}),
    )
    return {one.check: one for one in checks.of_node(facts)}


def red(found: dict[str, Finding], names: Iterable[str]) -> None:
    missing = {name: found[name] for name in names if not found[name].status.is_red}
    assert not missing


async def run_wrong(server: Any) -> None:
    """Start a server of ours by hand, with everything set that pgherd would never set."""
    await server.stop("fast", timeout_s=20)
    data = server.data_dir
    fixed = {
        "hba_file": f"{data}/pgherd_hba.conf",
        "ident_file": f"{data}/pgherd_ident.conf",
        "unix_socket_directories": str(server.socket_dir),
        "port": str(server.port),
    }
    with (data / "postgresql.auto.conf").open("a") as file:
        file.write("synchronous_commit = local\ndefault_transaction_read_only = on\n")
    words = " ".join(f"-c {name}={value}" for name, value in {**fixed, **WRONG}.items())
    start = ["-w", "-o", words, "-l", f"{data}/../wrong.log", "start"]
    await program(server, "pg_checksums", "--disable")
    await ctl(server, *start)


async def ctl(server: Any, *words: str) -> None:
    await program(server, "pg_ctl", *words)


async def program(server: Any, name: str, *words: str) -> None:
    """One of PostgreSQL's, as the server's own user."""
    argv = [server.binaries.program(name), "-D", str(server.data_dir), *words]
    done = await run_tool(argv, user=server.user, timeout_s=30)
    assert done.code == 0, done.last_words()


def test_settings_that_lose_data_or_nights_are_red(lab, play) -> None:
    async def story() -> None:
        server = await lab.primary("a")
        fine = judged(await look(server))
        for name in ("pg.fsync", "pg.full_page_writes", "pg.autovacuum", "pg.wal_log_hints"):
            assert not fine[name].status.is_red, fine[name]
        assert not fine["pg.synchronous_commit"].status.is_red, "our own session's is another"
        await run_wrong(server)
        seen = await look(server)
        red(
            judged(seen),
            (
                *("pg.fsync", "pg.full_page_writes", "pg.wal_level", "pg.hot_standby"),
                *("pg.autovacuum", "pg.synchronous_commit", "pg.read_only", "pg.slot_budget"),
                *("pg.reserved_connections", "pg.log_lines", "pg.log_statements"),
                *("pg.idle_timeout", "pg.checksums", "pg.wal_log_hints", "pg.listen"),
                "security.postgres_tls",
            ),
        )
        assert seen.version_num // 10000 == lab.binaries.major
        assert seen.wal_bytes >= 16 << 20
        await ctl(server, "-m", "immediate", "stop")

    play(story())


OF_PEOPLE_AND_TIME = (
    *("pg.long_transactions", "pg.prepared_transactions", "pg.blocked", "pg.archive"),
    *("pg.idle_in_transaction", "pg.connections", "pg.checkpoints", "pg.xid_age", "pg.mxid_age"),
    *("pg.pending_restart", "pg.files", "hba.errors", "hba.trust", "security.weak_passwords"),
    *("security.roles_expiring", "pg.synchronous_commit", "pg.collation", "disk.wal_size"),
    *("slots.inactive", "slots.xmin", "slots.lost"),
)


def test_what_people_and_time_do_is_red(lab, play, monkeypatch) -> None:
    """Limits of time and number are lowered so that the test need not wait for nights."""
    for name in ("TRANSACTION_S", "PREPARED_S", "IDLE_S", "BLOCKED_S"):
        monkeypatch.setattr(activity, name, 0)
    monkeypatch.setattr(activity, "CHECKPOINTS_LEAST", 2)
    monkeypatch.setattr(disks, "WAL_TIMES", 1)
    monkeypatch.setattr(activity, "XID_WARN", 10)
    monkeypatch.setattr(server_checks, "KEPT_MOST_BYTES", 1 << 20)
    monkeypatch.setattr(server_checks, "XMIN_AGE_MOST", 1)

    async def story() -> None:
        server = await lab.primary(
            "a",
            parameters={
                "max_prepared_transactions": "2",
                "max_connections": "12",
                "wal_level": "logical",
                "archive_mode": "on",
                "archive_command": "false",
                "max_wal_size": "64MB",
                "wal_keep_size": "0",
            },
            hba=("host all all 10.9.8.0/24 trust",),
        )
        async with contextlib.AsyncExitStack() as open_ones:

            async def session(*, autocommit: bool = True) -> Any:
                options = "-c synchronous_commit=local"
                made = await psycopg.AsyncConnection.connect(
                    lab.dsn(server), options=options, autocommit=autocommit
                )
                return await open_ones.enter_async_context(made)

            one = await session()
            await make_faults(one)
            await lock_rows_together(one, await session(autocommit=False))
            await break_files(server, one)
            half = await session(autocommit=False)
            await half.execute("CREATE TABLE half (i int)")
            await half.execute("PREPARE TRANSACTION 'half'")
            await half.commit()
            idle = await session(autocommit=False)
            await idle.execute("LOCK TABLE t")
            waits = asyncio.create_task((await session()).execute("SELECT * FROM t"))
            for _ in range(3):
                await session()
            seen = await until_red(server)
            red(judged(seen), OF_PEOPLE_AND_TIME)
            assert seen.pending == ("max_worker_processes",)
            assert seen.weak_roles == ("old",)
            assert set(seen.expiring) == {"pgherd_replication"}
            assert seen.unsynced
            await idle.rollback()
            await waits

    play(story())


async def make_faults(one: Any) -> None:
    """By SQL, as people do."""
    await one.execute("CREATE TABLE t (i int)")
    for _ in range(12):
        await one.execute("INSERT INTO t VALUES (1)")
    await lose_a_slot(one)
    await one.execute("SET password_encryption = 'md5'")
    await one.execute("CREATE ROLE old LOGIN PASSWORD 'x'")
    await one.execute("ALTER ROLE old SET synchronous_commit = off")
    await one.execute("ALTER ROLE pgherd_replication VALID UNTIL 'tomorrow'")
    await one.execute("ALTER SYSTEM SET max_worker_processes = 9")
    await one.execute("SELECT pg_create_physical_replication_slot('unread', true)")
    await one.execute("SELECT pg_create_logical_replication_slot('late', 'pgoutput')")
    await one.execute("UPDATE pg_database SET datcollversion = '0.1' WHERE datname = 'postgres'")
    for _ in range(5):
        await one.execute("INSERT INTO t VALUES (2)")
        await one.execute("SELECT pg_switch_wal()")
        await one.execute("CHECKPOINT")


async def lock_rows_together(one: Any, other: Any) -> None:
    """Two sessions that share the lock of a row are one multixact, each time."""
    for _ in range(12):
        async with one.transaction():
            await one.execute("SELECT i FROM t LIMIT 1 FOR SHARE")
            await other.execute("SELECT i FROM t LIMIT 1 FOR SHARE")
        await other.rollback()


async def lose_a_slot(one: Any) -> None:
    """A reader that stays away while there is no room for what it has not read."""
    await one.execute("SELECT pg_create_physical_replication_slot('gone', true)")
    for name, value in (("max_slot_wal_keep_size", "1MB"), ("wal_keep_size", "0")):
        await one.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    await one.execute("SELECT pg_reload_conf()")
    for _ in range(3):
        await one.execute("INSERT INTO t VALUES (0)")
        await one.execute("SELECT pg_switch_wal()")
    lost = "SELECT wal_status = 'lost' FROM pg_replication_slots"
    deadline = asyncio.get_running_loop().time() + 20
    while (await (await one.execute(lost)).fetchone()) != (True,):
        assert asyncio.get_running_loop().time() < deadline
        await one.execute("CHECKPOINT")
    await one.execute("ALTER SYSTEM RESET ALL")
    await one.execute("SELECT pg_reload_conf()")


async def break_files(server: Any, one: Any) -> None:
    """Lines that nobody understands, in files that are read at every start."""
    with (server.data_dir / "postgresql.auto.conf").open("a") as file:
        file.write("work_mem = 'a lot'\n")
    with (server.data_dir / "pgherd_hba.conf").open("a") as file:
        file.write("host all all 10.0.0.0/8 guess\n")
    await one.execute("SELECT pg_reload_conf()")


async def until_red(server: Any) -> Database:
    """Until a whole second has passed for who waits, and the archiver has tried."""
    deadline = asyncio.get_running_loop().time() + 30
    while True:
        seen = await look(server)
        times = (seen.transaction_s, seen.prepared_s, seen.idle_in_transaction_s, seen.blocked_s)
        if (all(times) and seen.archive_failed) or asyncio.get_running_loop().time() > deadline:
            return seen
        await asyncio.sleep(0.1)


def test_a_page_that_is_not_what_was_written(lab, play) -> None:
    """PostgreSQL counts it when somebody reads it; where it has checksums."""

    async def story() -> None:
        server = await lab.primary("a")
        fine = await look(server)
        assert not judged(fine)["pg.checksum_failures"].status.is_red
        assert not judged(fine)["pg.checksums"].status.is_red
        options = "-c synchronous_commit=local"
        connect = psycopg.AsyncConnection.connect
        async with await connect(lab.dsn(server), options=options) as one:
            await one.execute("CREATE TABLE t AS SELECT generate_series(1, 500) AS i")
            [path] = await (await one.execute("SELECT pg_relation_filepath('t')")).fetchone()
        await server.stop("fast", timeout_s=20)
        with (server.data_dir / path).open("r+b") as file:
            file.seek(4000)
            file.write(b"not what was written")
        await server.start()
        async with await connect(lab.dsn(server), autocommit=True) as one:
            with pytest.raises(psycopg.Error, match="invalid page"):
                await one.execute("SELECT count(*) FROM t")
        deadline = asyncio.get_running_loop().time() + 20
        while not (seen := await look(server)).checksum_failures:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.1)
        red(judged(seen), ["pg.checksum_failures"])

    play(story())


@pytest.mark.full
def test_queries_that_are_cancelled_on_a_replica(lab, play, monkeypatch) -> None:
    """The primary vacuums what they read, and nobody lets replay wait for them."""
    monkeypatch.setattr(activity, "CONFLICTS_MOST", 0)

    async def story() -> None:
        server = await lab.primary("a")
        replica = await lab.replica("b", server)
        async with await psycopg.AsyncConnection.connect(lab.dsn(replica), autocommit=True) as one:
            await one.execute("ALTER SYSTEM SET max_standby_streaming_delay = 0")
            await one.execute("SELECT pg_reload_conf()")
        fine = judged(await look(replica))
        assert not fine["pg.conflicts"].status.is_red
        connect = psycopg.AsyncConnection.connect
        options = "-c synchronous_commit=local"
        async with await connect(lab.dsn(server), options=options, autocommit=True) as one:
            await one.execute("CREATE TABLE t AS SELECT generate_series(1, 500) AS i")
            deadline = asyncio.get_running_loop().time() + 20
            while not (seen := await look(replica)).conflicts:
                assert asyncio.get_running_loop().time() < deadline
                reader = await connect(lab.dsn(replica))
                await reader.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
                with contextlib.suppress(psycopg.Error):
                    await reader.execute("SELECT count(*) FROM t")
                await one.execute("DELETE FROM t WHERE i % 2 = 0")
                await one.execute("VACUUM t")
                await one.execute("INSERT INTO t SELECT generate_series(1, 500)")
                await asyncio.sleep(0.2)
                await reader.close()
        red(judged(seen), ["pg.conflicts"])
        await replica.stop("immediate", timeout_s=20)

    play(story())


SMALL_MACHINE = {
    "/proc/meminfo": "MemTotal: 100000 kB\nMemAvailable: 50000 kB\n",
    "/proc/sys/vm/nr_hugepages": "0\n",
    "/proc/sys/kernel/core_pattern": "core\n",
}
TELL_MACHINE = """
import sys, msgspec
from pgherd.observe.doctor import machine
facts = machine.look(), machine.of_process("postgresql", int(sys.argv[1]))
sys.stdout.buffer.write(msgspec.json.encode(facts))
"""


def seen_where(files: dict[str, str], folder: Path, pid: int) -> tuple[Machine, Process]:
    """What is told of a machine whose kernel says other things."""
    done = subprocess.run(
        covered(files, folder, f'{sys.executable} -c "$LOOK" {pid}'),
        env={**os.environ, "LOOK": TELL_MACHINE},
        capture_output=True,
        check=False,
        timeout=60,
    )
    if could_not(done):
        pytest.skip("nothing can be mounted here")
    return msgspec.json.decode(done.stdout, type=tuple[Machine, Process])


@contextlib.contextmanager
def cores_allowed() -> Iterator[None]:
    """What starts meanwhile may leave cores."""
    before, most = resource.getrlimit(resource.RLIMIT_CORE)
    if most == 0:
        pytest.skip("nobody may leave a core here")
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (before, most))


def test_a_server_that_is_too_large_for_its_machine(lab, play, monkeypatch, tmp_path) -> None:
    """Most of the memory is its buffers, no huge page is kept for them, a crash leaves cores."""
    monkeypatch.setattr(machine_checks, "HUGE_FROM_BYTES", 32 << 20)

    async def story() -> None:
        with cores_allowed():
            server = await lab.primary("a", parameters={"shared_buffers": "64MB"})
        machine, process = seen_where(SMALL_MACHINE, tmp_path, running_pid(server.data_dir))
        facts = NodeFacts(
            node=NodeId("a"),
            kind=Kind.DATA,
            version="1",
            database=await look(server),
            machine=machine,
            processes=(process,),
        )
        found = {one.check: one for one in checks.of_node(facts)}
        red(found, ["memory.shared_buffers", "memory.huge_pages", "limits.core"])

    play(story())


def test_secrets_in_parameters_do_not_leave_the_node(lab, play) -> None:
    """Commands, connection strings and whatever applications keep are hidden."""

    async def story() -> None:
        server = await lab.primary(
            "a", parameters={"archive_mode": "on", "archive_command": "ship --token=hunter2 %p"}
        )
        async with await psycopg.AsyncConnection.connect(
            lab.dsn(server), options="-c synchronous_commit=local", autocommit=True
        ) as one:
            with (server.data_dir / "postgresql.auto.conf").open("a") as file:
                file.write("app.api_key = 'hunter2'\n")
            await one.execute("ALTER SYSTEM SET search_path = 'password=hunter2'")
            await one.execute("SELECT pg_reload_conf()")
        seen = await look(server)
        assert "hunter2" not in repr(seen)
        assert seen.settings["archive_command"] == "(hidden)"

    play(story())
