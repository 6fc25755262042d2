"""What clients do in a session, through a proxy that ends SCRAM and TLS, as with a server."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from pathlib import Path

import psycopg
import pytest

SETUP = """
CREATE ROLE ann LOGIN REPLICATION PASSWORD 'right';
GRANT ALL ON SCHEMA public TO ann;
CREATE TABLE public.filled (id int, note text);
ALTER TABLE public.filled OWNER TO ann;
"""
BULK = "COPY (SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 40000) i) TO STDOUT"
SLEEP = "SELECT pg_sleep(60)"
ASLEEP = f"SELECT pid FROM pg_stat_activity WHERE query = '{SLEEP}' AND state = 'active'"
END = f"SELECT pg_terminate_backend(pid, 10000) FROM ({ASLEEP}) found"
GROWTH_BYTES_MAX = 16 << 20


async def prepared(lab, certificate):
    """A server with a role and a table, whose commits wait for nobody; 15 with TLS."""
    files = certificate("server")
    ssl = {"ssl": "on", "ssl_cert_file": str(files.cert), "ssl_key_file": str(files.key)}
    server = await lab.primary("a", parameters=ssl if lab.binaries.major == 15 else {})
    await server.set_names("")
    async with await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True) as agent:
        await agent.execute(SETUP)
    return server


async def connect(dsn: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True)


async def until_asleep(lab, server, wait_until) -> None:
    """Wait until the server runs what a client is to be torn out of."""
    async with await connect(lab.dsn(server)) as agent:

        async def runs() -> bool:
            return bool(await (await agent.execute(ASLEEP)).fetchall())

        await wait_until("the server sleeps", runs)


async def give_up(one: psycopg.AsyncConnection) -> None:
    """Begin a COPY and think better of it."""
    async with one.cursor() as cursor, cursor.copy("COPY public.filled FROM STDIN") as copy:
        await copy.write_row((1, "never"))
        raise RuntimeError("given up")


async def tour(dsn: str) -> list[object]:
    """Everything that a session may hold, and what came of it."""
    seen: list[object] = []
    one = await connect(dsn)
    notices: list[str] = []
    one.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    status = one.info.parameter_status
    seen += [status("server_version"), status("standard_conforming_strings"), status("TimeZone")]
    await one.execute("SET TimeZone TO 'Asia/Tokyo'; SET application_name TO 'tour'")
    seen += [status("TimeZone"), status("application_name")]
    options = await psycopg.AsyncConnection.connect(dsn, options="-c geqo=off", autocommit=True)
    seen.append(await (await options.execute("SHOW geqo")).fetchone())
    await options.close()
    walsender = await psycopg.AsyncConnection.connect(dsn, replication="database", autocommit=True)
    seen.append((await (await walsender.execute("IDENTIFY_SYSTEM")).fetchone())[0])
    await walsender.close()

    many = ", ".join(["%s"] * 1000)
    cursor = await one.execute(f"SELECT sum(v) FROM unnest(ARRAY[{many}]) v", list(range(1000)))
    seen.append(await cursor.fetchone())
    cursor = one.cursor(binary=True)
    await cursor.execute("SELECT i, i::text, now() IS NULL FROM generate_series(1, 20000) i")
    rows = await cursor.fetchall()
    seen += [len(rows), rows[-1]]

    with pytest.raises(psycopg.errors.DivisionByZero) as caught:
        await one.execute("SELECT 1 / (3 - i) FROM generate_series(1, 9) i")
    seen += [caught.value.sqlstate, str(caught.value)]
    await one.execute("DO $$ BEGIN RAISE NOTICE 'heard'; END $$")
    seen.append(notices)

    async with one.transaction(), one.cursor(name="held") as named:
        await named.execute("SELECT * FROM generate_series(1, 500)")
        seen.append(await named.fetchmany(7))
        await named.scroll(100)
        seen.append(await named.fetchone())
    async with one.transaction():
        (number,) = await (
            await one.execute("SELECT lo_from_bytea(0, %s)", [b"big" * 9999])
        ).fetchone()
        content = await (await one.execute("SELECT lo_get(%s)", [number])).fetchone()
        seen.append(hashlib.md5(content[0]).hexdigest())
        await one.execute("SELECT lo_unlink(%s)", [number])

    async with one.pipeline() as pipe:
        first = await one.execute("SELECT %s::int", [1])
        broken = await one.execute("SELECT * FROM nowhere")
        with pytest.raises(psycopg.errors.UndefinedTable):
            await pipe.sync()
        second = await one.execute("SELECT %s::int", [2])
    seen += [await first.fetchone(), broken.statusmessage, await second.fetchone()]
    for _ in range(8):  # psycopg prepares a statement that comes again
        await one.execute("SELECT %s::text", ["again"])

    async with one.cursor() as cursor, cursor.copy("COPY public.filled FROM STDIN") as copy:
        for number in range(3000):
            await copy.write_row((number, "x" * 1000))
    found = await one.execute("SELECT count(*), sum(id), sum(length(note)) FROM public.filled")
    seen.append(await found.fetchone())
    with pytest.raises(RuntimeError):
        await give_up(one)
    found = await one.execute("SELECT count(*) FROM public.filled")
    seen.append(await found.fetchone())
    await one.execute("TRUNCATE public.filled")
    await one.close()
    return seen


@pytest.fixture(params=["session", "transaction"])
def pool(request: pytest.FixtureRequest) -> str:
    """Who ends the protocol: a session with a server of its own, or one that borrows."""
    return request.param


def test_a_tour_ends_as_with_a_direct_connection(lab, play, way, certificate, pool):
    """Results, errors, notices, parameters, cursors, large objects, pipelines, COPY: all alike."""

    async def story():
        server = await prepared(lab, certificate)
        async with way(server, tls=certificate("proxy").tls, pool=pool) as it:
            direct = await tour(it.dsn("ann", "right", direct=True))
            assert await tour(it.dsn("ann", "right", sslmode="disable")) == direct
            assert await tour(it.dsn("ann", "right", sslmode="require")) == direct

    play(story())


async def copied(dsn: str, *, pause) -> str:
    """MD5 of a big COPY, with a pause in the middle."""
    digest = hashlib.md5()
    async with await connect(dsn) as one, one.cursor() as cursor, cursor.copy(BULK) as copy:
        number = 0
        async for block in copy:
            digest.update(block)
            number += 1
            if number == 500:
                await pause()
    return digest.hexdigest()


def test_a_reader_that_pauses_costs_no_memory(lab, play, way, certificate, pool):
    """40 MB of COPY, plain and in TLS: nothing is lost, and the proxy holds none of it."""

    async def story():
        server = await prepared(lab, certificate)
        async with way(server, tls=certificate("proxy").tls, pool=pool) as it:
            await (await connect(it.dsn("ann", "right", sslmode="require"))).close()
            before = it.control.counters().rss_bytes
            most = before

            async def pause() -> None:
                nonlocal most
                for _ in range(12):
                    await asyncio.sleep(0.1)
                    most = max(most, it.control.counters().rss_bytes)

            expected = await copied(it.dsn("ann", "right", direct=True), pause=pause)
            for mode in ("disable", "require"):
                dsn = it.dsn("ann", "right", sslmode=mode)
                assert await copied(dsn, pause=pause) == expected, mode
            assert most - before < GROWTH_BYTES_MAX, (before, most)

    play(story())


def test_a_cancel_hits_its_own_session_and_a_notification_its_listener(
    lab, play, way, certificate, wait_until, pool
):
    """Keys are the proxy's own, of both lengths; an unknown one hits nobody."""

    async def story():
        server = await prepared(lab, certificate)
        async with way(server, tls=certificate("proxy").tls, pool=pool) as it:
            sleeping = partial(until_asleep, lab, server, wait_until)
            for more in ({}, {"sslmode": "disable"}, {"max_protocol_version": "latest"}):
                dsn = it.dsn("ann", "right", **more)
                hit, spared = await connect(dsn), await connect(dsn)
                other = asyncio.create_task(spared.execute("SELECT pg_sleep(1)"))
                running = asyncio.create_task(hit.execute(SLEEP))
                await sleeping()
                await hit.cancel_safe()
                with pytest.raises(psycopg.errors.QueryCanceled):
                    await running
                await other
                assert (await (await hit.execute("SELECT 1")).fetchone()) == (1,)
                pids = {one.info.backend_pid for one in (hit, spared)}
                assert len(pids) == 2

                heard = hit.notifies(timeout=10, stop_after=1)
                await hit.execute("LISTEN news")
                await spared.execute("NOTIFY news, 'of the day'")
                assert [each.payload async for each in heard] == ["of the day"]
                await hit.close()
                await spared.close()
            latest = await connect(it.dsn("ann", "right", max_protocol_version="latest"))
            assert latest.pgconn.full_protocol_version == 30002
            await latest.close()
            await it.counted("cancels are counted", lambda seen: seen.cancels_total == 3)

    play(story())


def test_the_end_of_a_reign_is_told_in_tls_too(lab, play, way, certificate, wait_until, pool):
    """57P01 where nothing ran and a move would lose something, 08007 where something did; then a
    new session is possible. So are PostgreSQL's own end of a session, and the proxy's."""

    async def story():
        server = await prepared(lab, certificate)
        async with way(server, tls=certificate("proxy").tls, pool=pool) as it:
            dsn = it.dsn("ann", "right", sslmode="require")
            idle, clean, busy = [await connect(dsn) for _ in range(3)]
            await idle.execute("CREATE TEMP TABLE mine (n int)")
            running = asyncio.create_task(busy.execute(SLEEP))
            await until_asleep(lab, server, wait_until)
            it.publish(term=2)
            with pytest.raises(psycopg.OperationalError) as caught:
                await running
            assert caught.value.sqlstate == "08007"
            with pytest.raises(psycopg.errors.AdminShutdown):
                await idle.execute("SELECT 1")
            await clean.execute("SELECT 1")  # it was moved
            ended, left = await connect(dsn), await connect(dsn)
            async with await connect(lab.dsn(server)) as agent:
                await agent.execute(END)  # of the one that was cut: it sleeps on
                running = asyncio.create_task(ended.execute(SLEEP))
                await until_asleep(lab, server, wait_until)
                await agent.execute(END)
            with pytest.raises(psycopg.errors.AdminShutdown):
                await running
            it.process.terminate()
            await asyncio.to_thread(it.process.wait, 15)
            with pytest.raises(psycopg.errors.AdminShutdown):
                await left.execute("SELECT 1")

    play(story())


@pytest.mark.parametrize("lab", ["15"], indirect=True)
def test_pgbench_and_psql_notice_nothing(lab, play, way, certificate, pool):
    """Programs nobody here wrote, each with TLS on the way in."""
    programs = Path("/usr/lib/postgresql/15/bin")
    if not (programs / "pgbench").exists():
        pytest.skip("needs Debian's pgbench")

    async def run(it, program: str, *more: str) -> str:
        command = [str(programs / program), "-h", "127.0.0.1", "-p", str(it.port), "-U", "ann"]
        child = await asyncio.create_subprocess_exec(
            *command,
            *more,
            env={"PGPASSWORD": "right", "PGSSLMODE": "require", "PGCHANNELBINDING": "require"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await child.communicate()
        assert child.returncode == 0, out.decode()
        return out.decode()

    async def story():
        server = await prepared(lab, certificate)
        async with way(server, tls=certificate("proxy").tls, pool=pool) as it:
            await run(it, "pgbench", "-i", "-q", "postgres")
            for words in (["-C"], ["-M", "extended"], ["-M", "prepared", "-S"]):
                said = await run(it, "pgbench", "-n", "-c", "4", "-t", "10", *words, "postgres")
                assert "number of transactions actually processed: 40/40" in said
            said = await run(
                it, "psql", "-At", "-c", "SELECT count(*) FROM pgbench_accounts", "postgres"
            )
            assert said.strip() == "100000"

    play(story())
