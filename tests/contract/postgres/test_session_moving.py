"""Sessions that are held, and that go on at another server process without their client's notice.

One server stands for all: a new term makes every session look for the primary of now, and its
process id tells that it found another.
"""

from __future__ import annotations

import asyncio
import time

import psycopg
import pytest

HOLD_MS = 1500
ASLEEP = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
NAMES = "SELECT name FROM pg_prepared_statements ORDER BY name"


async def ann(lab, server) -> None:
    """Have a role to log in as."""
    await server.set_names("")
    async with await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True) as agent:
        await agent.execute("CREATE ROLE ann LOGIN PASSWORD 'right'")
        await agent.execute("GRANT pg_signal_backend TO ann")


async def connect(it, **more) -> psycopg.AsyncConnection:
    dsn = it.dsn("ann", "right", **more)
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True)


async def value(session, statement: str, *given, **more) -> object:
    row = await (await session.execute(statement, given or None, **more)).fetchone()
    return row[0]


async def pid(session) -> object:
    return await value(session, "SELECT pg_backend_pid()")


async def asleep(server, *, besides: frozenset[int] = frozenset()) -> frozenset[int]:
    """The server processes that sleep in a statement."""
    rows = await server.watching.rows(ASLEEP)
    return frozenset(pid for (pid,) in rows) - besides


async def code(waits) -> str | None:
    """The SQLSTATE of a statement that must fail."""
    with pytest.raises(psycopg.Error) as caught:
        await waits
    return caught.value.sqlstate


def test_what_has_begun_goes_on_and_nothing_else_begins(lab, play, way, wait_until):
    """What runs finishes under a hold; the others wait for its end, or for its deadline."""

    async def story():
        server = await lab.primary("a")
        await ann(lab, server)
        async with way(server) as it:
            idle, open_one, copying = [await connect(it) for _ in range(3)]
            before = await pid(idle)
            await open_one.execute("BEGIN")
            await copying.execute("BEGIN; CREATE TEMP TABLE t (i int) ON COMMIT DROP")
            async with copying.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
                await copy.write(b"1\n")
                await it.told(hold="one")
                waiting = asyncio.create_task(pid(idle))
                newcomer = asyncio.create_task(connect(it))
                await it.counted("two are held", lambda seen: seen.held == 2)
                await copy.write(b"2\n")
            assert await value(copying, "SELECT count(*) FROM t") == 2
            await copying.execute("COMMIT")
            assert await value(open_one, "SELECT 1") == 1
            assert not it.control.is_quiet("one")
            await open_one.execute("COMMIT")

            async def is_quiet() -> bool:
                return it.control.is_quiet("one")

            await wait_until("nothing runs", is_quiet)
            late = asyncio.create_task(pid(open_one))
            await it.counted("three are held", lambda seen: seen.held == 3)
            assert not waiting.done()
            assert not newcomer.done()
            it.publish()
            assert await waiting == before
            assert await late != before
            await (await newcomer).close()

            began = time.monotonic()
            await it.told(hold="two", hold_ms=HOLD_MS)
            assert await pid(idle) == before
            assert time.monotonic() - began > HOLD_MS / 1000
            for each in (idle, open_one, copying):
                await each.close()

    play(story())


def test_state_goes_along_and_what_cannot_is_told_so(lab, play, way, wait_until):
    """Settings, prepared statements, the client's key; 57P01 or 08007 for the others at once."""

    async def story():
        server = await lab.primary("a")
        await ann(lab, server)
        async with way(server) as it:
            moved, temporary, open_one, busy = [await connect(it) for _ in range(4)]
            before = await pid(moved)
            await moved.execute("SET TimeZone = 'Asia/Tokyo'")
            await moved.execute("SET DateStyle = 'German, DMY'")
            await moved.execute("SET application_name = 'it''s \\ me'")
            assert await value(moved, "SELECT %s::int + 1", 1, prepare=True) == 2
            gone = "SELECT 'gone', %s::int"
            await moved.execute(gone, (1,), prepare=True)
            names = await (await moved.execute(NAMES)).fetchall()
            await moved.execute(f"DEALLOCATE {names[-1][0]}")
            await temporary.execute("CREATE TEMP TABLE mine (i int)")
            await open_one.execute("BEGIN")
            sleeping = asyncio.create_task(code(busy.execute("SELECT pg_sleep(60)")))
            await wait_until("it sleeps", lambda: asleep(server))

            await it.told(term=2, away=True)
            assert await code(temporary.execute("SELECT 1")) == "57P01"
            assert await code(open_one.execute("SELECT 1")) == "57P01"
            assert await sleeping == "08007"
            waiting = asyncio.create_task(pid(moved))
            await it.counted("it is held", lambda seen: seen.held == 1)
            it.publish(term=3)
            assert await waiting != before
            assert await value(moved, "SHOW TimeZone") == "Asia/Tokyo"
            assert await value(moved, "SHOW DateStyle") == "German, DMY"
            assert await value(moved, "SHOW application_name") == "it's \\ me"
            assert await (await moved.execute(NAMES)).fetchall() == names[:-1]
            assert await value(moved, "SELECT %s::int + 1", 4, prepare=True) == 5
            slept = await asleep(server)
            sleeping = asyncio.create_task(code(moved.execute("SELECT pg_sleep(60)")))
            await wait_until("it sleeps", lambda: asleep(server, besides=slept))
            await moved.cancel_safe()
            assert await sleeping == "57014"
            await it.counted("it is counted", lambda seen: seen.moved_total == 1)
            await moved.close()

    play(story())


@pytest.mark.parametrize("lab", ["15"], indirect=True)
def test_not_everybody_goes_on(lab, play, way):
    """Who was ended on purpose, finds no server, may not log in; a full server is awaited."""

    async def story():
        server = await lab.primary("a")
        await ann(lab, server)

        async def alter(how: str) -> None:
            async with await psycopg.AsyncConnection.connect(
                lab.dsn(server), autocommit=True
            ) as agent:
                await agent.execute(f"ALTER ROLE ann {how}")

        async with way(server, connect_timeout_ms=4000) as it:
            one, lost = await connect(it), await connect(it)
            await lost.execute("SELECT pg_terminate_backend(%s)", (await pid(one),))
            assert await code(one.execute("SELECT 1")) == "57P01"

            await it.told(term=2, away=True)
            with pytest.raises(psycopg.errors.AdminShutdown, match="nothing was sent"):
                await lost.execute("SELECT 1")
            await it.told(term=3)

            refused = await connect(it)
            await alter("NOLOGIN")
            await it.told(term=4)
            assert await code(refused.execute("SELECT 1")) == "28000"

            await alter("LOGIN CONNECTION LIMIT 1")
            first = await connect(it)
            second = asyncio.create_task(connect(it))
            await it.counted("it waits", lambda seen: seen.held == 1)
            await asyncio.sleep(0.6)
            assert not second.done()
            await first.close()
            await (await second).close()

    play(story())
