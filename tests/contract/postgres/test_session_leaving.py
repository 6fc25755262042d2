"""Sessions that have to leave: those of a proxy that is succeeded, and of a node in maintenance."""

from __future__ import annotations

import asyncio

import psycopg
import pytest


async def ann(lab, server) -> None:
    """Have a role to log in as."""
    await server.set_names("")
    async with await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True) as agent:
        await agent.execute("CREATE ROLE ann LOGIN PASSWORD 'right'")


async def connect(it) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(it.dsn("ann", "right"), autocommit=True)


async def pid(session) -> object:
    row = await (await session.execute("SELECT pg_backend_pid()")).fetchone()
    return row[0]


def test_a_succeeded_proxy_says_that_it_is_quiet(lab, play, way, wait_until):
    """A hold does not wait for it longer than its own transactions run, and then they move."""

    async def story():
        server = await lab.primary("a")
        await ann(lab, server)
        async with way(server, drain_ms=60_000) as it:
            idle, open_one = await connect(it), await connect(it)
            before = await pid(idle)
            await open_one.execute("BEGIN")
            old = await it.succeed()
            newcomer = await connect(it)
            await it.told(hold="one")
            waiting = asyncio.create_task(pid(idle))

            async def is_quiet() -> bool:
                return it.control.is_quiet("one")

            assert not await is_quiet()
            await open_one.execute("COMMIT")
            await wait_until("nothing runs", is_quiet)
            assert not waiting.done()
            await it.told(term=2)
            assert await waiting != before
            for each in (idle, open_one, newcomer):
                await each.close()
            await asyncio.to_thread(old.wait, 10)

    play(story())


def test_a_stream_of_wal_is_not_waited_for(lab, play, way, wait_until):
    """It has no end: a hold begins the switchover without it."""

    async def story():
        server = await lab.primary("a")
        await ann(lab, server)
        async with way(server) as it:
            session = await connect(it)
            async with await psycopg.AsyncConnection.connect(
                lab.dsn(server), autocommit=True
            ) as agent:
                await agent.execute("ALTER ROLE ann REPLICATION")
                stream = await psycopg.AsyncConnection.connect(
                    it.dsn("ann", "right", replication="database"), autocommit=True
                )
                cursor = await stream.execute("IDENTIFY_SYSTEM")
                position = (await cursor.fetchone())[2]
                stream.pgconn.send_query(f"START_REPLICATION {position}".encode())
                stream.pgconn.flush()

                async def streams() -> bool:
                    found = await agent.execute("SELECT state FROM pg_stat_replication")
                    return await found.fetchone() == ("streaming",)

                await wait_until("it streams", streams)

                async def is_quiet() -> bool:
                    return it.control.is_quiet("one")

                await it.told(hold="one")
                await wait_until("nothing that ends runs", is_quiet)
                assert await streams()
            stream.pgconn.finish()
            await session.close()

    play(story())


def test_sessions_leave_a_node_in_maintenance(lab, play, way, wait_until):
    """Idle ones move at once and unnoticed; the rest has `drain_timeout`, then 57P01 or 08007."""

    async def story():
        server = await lab.primary("a")
        await ann(lab, server)
        async with way(server, route="replica", drain_ms=5_000) as it:
            it.publish(tended="c")
            idle, keeps, open_one, busy = [await connect(it) for _ in range(4)]
            before = await pid(idle)
            await idle.execute("SET TimeZone = 'Asia/Tokyo'")
            await keeps.execute("SET work_mem = '5MB'")
            await open_one.execute("BEGIN")
            running = asyncio.create_task(busy.execute("SELECT pg_sleep(60)"))
            label = f"replica:{it.port}"
            await it.counted("all are at b", lambda seen: seen.sessions == {label: {"b": 4}})
            it.publish(tended="b")
            await it.counted("one moved", lambda seen: seen.moved_total == 1)
            assert await pid(idle) != before
            row = await (await idle.execute("SHOW TimeZone")).fetchone()
            assert row == ("Asia/Tokyo",)
            await open_one.execute("COMMIT")
            assert await open_one.execute("SELECT 1")
            await it.counted("another moved", lambda seen: seen.moved_total == 2)
            with pytest.raises(psycopg.OperationalError) as unknown:
                await running
            assert unknown.value.sqlstate == "08007"
            with pytest.raises(psycopg.errors.AdminShutdown, match="b is in maintenance"):
                await keeps.execute("SELECT 1")
            await it.counted("none is there", lambda seen: seen.sessions == {label: {"c": 2}})
            await it.counted("they are counted", lambda seen: seen.errors["drained"] == 2)
            assert await open_one.execute("SELECT 1")
            for each in (idle, open_one):
                await each.close()

    play(story())
