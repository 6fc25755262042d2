"""Limits and time limits of sessions at a real server, where the proxy ends SCRAM and where not."""

from __future__ import annotations

import asyncio

import msgspec
import psycopg
import pytest

from pgherd.relay.messages import Pool
from pgherd.route.entry import Limits

PASSWORD = "right"
POOLS = pytest.mark.parametrize("pool", list(Pool))
PLAIN = {"sslmode": "disable"}
COUNT = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'ann'"
USERS = "SELECT usename FROM pg_stat_activity WHERE usename IN ('ann', 'bob') ORDER BY 1"


async def story_of(lab, way, tell, pool, **options) -> None:
    """Tell a story in front of a server that knows ann and bob, and has a database app."""
    server = await lab.primary("a")
    await server.set_names("")
    async with await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True) as agent:
        for user in ("ann", "bob"):
            await agent.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'")
        await agent.execute("CREATE DATABASE app")
        async with way(server, **options) as it:
            (listener,) = it.settings.listeners
            pooled = (msgspec.structs.replace(listener, pool=pool),)
            it.control.configure(msgspec.structs.replace(it.settings, listeners=pooled))
            await it.counted("it has its listener", lambda seen: bool(seen.listening))
            await tell(it, agent)


LEAVES_S = 20.0


@POOLS
def test_one_too_many_of_a_user_or_a_database(lab, play, way, pool):
    """53300 where PostgreSQL says it; a wrong password takes no place from the right user."""

    async def connect(it, user, password=PASSWORD, **more):
        return await psycopg.AsyncConnection.connect(it.dsn(user, password, **PLAIN, **more))

    async def story(it, agent):
        first = await connect(it, "ann")
        with pytest.raises(psycopg.OperationalError, match='user "ann" has 1 sessions open'):
            await connect(it, "ann")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await connect(it, "bob", "wrong")
        second = await connect(it, "bob", dbname="app")
        with pytest.raises(psycopg.OperationalError, match='database "app" has 1 sessions open'):
            await connect(it, "bob", dbname="app")
        assert await (await agent.execute(USERS)).fetchall() == [("ann",), ("bob",)]
        expected = {"limit_user": 1, "limit_database": 1}
        await it.counted("both limits", lambda now: now.errors == expected)
        await first.close()
        async with asyncio.timeout(LEAVES_S):  # the proxy hears of it a moment later
            while True:
                try:
                    await (await connect(it, "ann")).close()
                    break
                except psycopg.OperationalError as error:
                    if 'user "ann" has 1 sessions open' not in str(error):
                        raise
        await second.close()

    limits = Limits(user=2, users={"ann": 1}, databases={"app": 1})
    play(story_of(lab, way, story, pool, limits=limits))


@POOLS
def test_silent_clients_are_ended_and_running_statements_are_not(lab, play, way, pool):
    """25P03 in a transaction, 57P05 outside; the server has no session left of them."""

    async def story(it, agent):
        dsn = it.dsn("ann", PASSWORD, **PLAIN)
        inside = await psycopg.AsyncConnection.connect(dsn)
        await inside.execute("SELECT 1")
        outside = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
        busy = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
        assert await (await busy.execute("SELECT pg_sleep(4)::text")).fetchone() == ("",)
        assert await (await agent.execute(COUNT)).fetchone() == (1,)
        for one, code in ((inside, "25P03"), (outside, "57P05")):
            with pytest.raises(psycopg.Error) as caught:
                await one.execute("SELECT 1")
            assert caught.value.sqlstate == code, caught.value
        await busy.close()

    play(story_of(lab, way, story, pool, read_timeout_ms=1000))
