"""What the operator allows pools, as a server and its clients see it; all of it changes at once."""

from __future__ import annotations

import asyncio

import msgspec
import psycopg
import pytest

from pgherd.route.poolrules import Database, PoolRules, Sizes
from pgherd.route.poolsteps import PoolLimits

ONE_VERSION = pytest.mark.parametrize("lab", ["15"], indirect=True)
OTHER_VERSION = pytest.mark.parametrize("lab", ["18"], indirect=True)
SETUP = """
CREATE ROLE ann LOGIN PASSWORD 'right'; CREATE ROLE bob LOGIN PASSWORD 'right';
CREATE ROLE boss LOGIN PASSWORD 'right';
"""
BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"


class Scene:
    """A server, a proxy before it, and who looks on."""

    def __init__(self, it, agent, wait_until) -> None:
        self.it, self.agent, self.wait_until = it, agent, wait_until
        self.clients: list[psycopg.AsyncConnection] = []

    async def allow(self, rules: PoolRules) -> None:
        """Bring other rules into force; who knows a later snapshot knows them."""
        rules = msgspec.structs.replace(rules, viewers=("boss",))
        self.it.settings = msgspec.structs.replace(self.it.settings, pools=rules)
        self.it.control.configure(self.it.settings)
        await self.it.told()

    async def client(self, user: str = "ann", **more: str) -> psycopg.AsyncConnection:
        dsn = self.it.dsn(user, "right", **more)
        self.clients.append(await connect(dsn))
        return self.clients[-1]

    async def busy(self, number: int, user: str = "ann") -> list[psycopg.AsyncConnection]:
        """So many clients, each with a server of its own."""
        found = [await self.client(user) for _ in range(number)]
        for one in found:
            await one.execute("BEGIN")
        return found

    async def waiting(self, one: psycopg.AsyncConnection) -> asyncio.Task[object]:
        """Let a client ask, and wait until it waits for a server."""
        asked = asyncio.create_task(pid(one))
        async with await connect(self.it.dsn("boss", "right", dbname="pgherd")) as looks:

            async def waits() -> bool:
                lists = dict(await (await looks.execute("SHOW LISTS")).fetchall())
                return lists["waiting_clients"] == 1

            await self.wait_until("one waits", waits)
        return asked

    async def backends(self, user: str = "ann") -> int:
        return (await (await self.agent.execute(BACKENDS, [user])).fetchone())[0]

    async def has(self, number: int, user: str = "ann") -> None:
        """Wait until a user has so many server processes."""

        async def seen() -> bool:
            return await self.backends(user) == number

        await self.wait_until(f"{user} has {number} server processes", seen)

    async def leave(self) -> None:
        for one in self.clients:
            await one.close()
        self.clients.clear()


async def connect(dsn: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=None)


async def pid(one: psycopg.AsyncConnection) -> int:
    return (await (await one.execute("SELECT pg_backend_pid()")).fetchone())[0]


async def told(lab, way, wait_until, story) -> None:
    """Tell a story of a pool."""
    server = await lab.primary("a")
    await server.set_names("")
    async with await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True) as agent:
        await agent.execute(SETUP)
        async with way(server, pool="transaction", connect_timeout_ms=20_000) as it:
            await story(Scene(it, agent, wait_until))


@ONE_VERSION
def test_sizes_queues_and_times(lab, play, way, wait_until):
    async def story(scene: Scene) -> None:
        await scene.allow(PoolRules(PoolLimits(size=2, wait_ms=0)))
        first, second = await scene.busy(2)
        third, fourth = await scene.client(), await scene.client()
        asked = await scene.waiting(third)
        assert await scene.backends() == 2, "a pool of two has two servers"

        # Who is one too many for the queue is sent away, and who waits goes on waiting.
        await scene.allow(PoolRules(PoolLimits(size=2, wait_ms=0, queue=1)))
        with pytest.raises(psycopg.errors.TooManyConnections, match="1 clients wait for a server"):
            await fourth.execute("SELECT 1")
        assert not asked.done()
        await first.execute("COMMIT")
        assert await asked
        assert await scene.backends() == 2

        # Who waits for too long is told so; nothing was sent anywhere.
        await first.execute("BEGIN")
        await scene.allow(PoolRules(PoolLimits(size=2, wait_ms=300)))
        with pytest.raises(psycopg.errors.TooManyConnections, match="within 300 ms; nothing was"):
            await third.execute("SELECT 1")

        # Then the reserve: for who has waited, and only while it is needed.
        limits = PoolLimits(size=2, wait_ms=0, reserve=1, reserve_after_ms=200)
        await scene.allow(PoolRules(limits))
        fifth = await scene.client()
        assert await asyncio.wait_for(pid(fifth), 10)
        assert await scene.backends() == 3
        await first.execute("COMMIT")
        await second.execute("COMMIT")
        await scene.has(2)
        await scene.leave()

        # What nobody uses goes, but for what is to stay.
        await scene.allow(PoolRules(PoolLimits(size=2, min_size=1, idle_ms=300)))
        await scene.has(1)
        one = await scene.client()
        before = await pid(one)

        # And what is old goes: here it is replaced, for one is to stay.
        await scene.allow(PoolRules(PoolLimits(size=2, min_size=1, idle_ms=0, lifetime_ms=300)))

        async def renewed() -> bool:
            return await pid(one) != before

        await wait_until("another process serves", renewed)
        await scene.allow(PoolRules(PoolLimits(size=2, min_size=0, idle_ms=100)))
        await scene.has(0)
        assert await pid(one)
        await scene.leave()

    play(told(lab, way, wait_until, story))


@OTHER_VERSION
def test_pools_of_one_user_and_one_database_share_what_there_may_be(lab, play, way, wait_until):
    """An idle server of another pool makes room; a busy one is waited for."""

    async def story(scene: Scene) -> None:
        await scene.allow(PoolRules(PoolLimits(size=5), database_servers=2))
        ann = await scene.client("ann")
        assert await pid(ann)
        others = await scene.busy(2, "bob")
        await scene.has(0, "ann")
        assert await scene.backends("bob") == 2
        asked = await scene.waiting(ann)
        await others[0].execute("COMMIT")
        assert await asked
        await scene.has(1, "bob")

        # What is said of a user by name counts for all of its pools.
        await others[1].execute("COMMIT")
        await scene.allow(PoolRules(PoolLimits(size=5), users={"bob": Sizes(servers=1)}))
        elsewhere = await scene.client("bob", dbname="template1")
        assert await pid(elsewhere)
        await scene.has(1, "bob")
        await elsewhere.execute("BEGIN")
        asked = await scene.waiting(others[0])
        await elsewhere.execute("COMMIT")
        assert await asked

        # And a size by name.
        await scene.allow(PoolRules(PoolLimits(size=5), users={"bob": Sizes(size=1)}))
        await others[0].execute("BEGIN")
        asked = await scene.waiting(others[1])
        assert await scene.backends("bob") <= 2
        await others[0].execute("COMMIT")
        assert await asked
        await scene.leave()

    play(told(lab, way, wait_until, story))


@OTHER_VERSION
@pytest.mark.parametrize("pool", ["transaction", "session"])
def test_names_and_settings_of_databases(lab, play, way, wait_until, monkeypatch, pool):
    """An alias leads to its database, and its sessions begin as the operator wants."""
    settings = {"work_mem": "7MB", "timezone": "Asia/Tokyo"}
    reports = {"reports": Database(dbname="postgres", settings=settings)}

    async def story() -> None:
        server = await lab.primary("a")
        await server.set_names("")
        async with await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True) as agent:
            await agent.execute(SETUP)
            async with way(server, pool=pool, pools=PoolRules(databases=reports)) as it:
                await seen(Scene(it, agent, wait_until))

    async def shown(scene: Scene, *names: str, **more: str) -> list[str]:
        one = await scene.client(**more)
        return [(await (await one.execute(f"SHOW {name}")).fetchone())[0] for name in names]

    async def seen(scene: Scene) -> None:
        assert await shown(scene, "work_mem") == ["4MB"]
        one = await scene.client(dbname="reports")
        assert one.info.parameter_status("TimeZone") == "Asia/Tokyo"
        await one.execute("SET work_mem = '9MB'")
        await one.execute("RESET work_mem")
        asked = await one.execute(
            "SELECT current_setting('work_mem'), current_setting('timezone'), current_database()"
        )
        assert await asked.fetchone() == ("7MB", "Asia/Tokyo", "postgres")

        # What a client says itself is heard before that.
        said = "-c work_mem=5MB"
        assert await shown(scene, "work_mem", dbname="reports", options=said) == ["5MB"]

        # libpq says `geqo` at the startup if it is told to; the server hears of it or not.
        monkeypatch.setenv("PGGEQO", "perhaps")
        with pytest.raises(psycopg.OperationalError, match='"geqo" requires a Boolean'):
            await scene.client()
        await scene.allow(PoolRules(databases=reports, ignored=("geqo",)))
        assert await shown(scene, "geqo") == ["on"]
        monkeypatch.delenv("PGGEQO")

        # `pgherd` is somebody else only where servers are lent; an alias reaches one of that name.
        said = "may not use" if pool == "transaction" else '"pgherd" does not exist'
        with pytest.raises(psycopg.OperationalError, match=said):
            await scene.client(dbname="pgherd")
        await scene.agent.execute("CREATE DATABASE pgherd")
        await scene.allow(PoolRules(databases={"mine": Database(dbname="pgherd")}))
        one = await scene.client(dbname="mine")
        row = await (await one.execute("SELECT current_database()")).fetchone()
        assert row == ("pgherd",)

        # A name that is no alias any more is the server's own.
        await scene.allow(PoolRules())
        with pytest.raises(psycopg.OperationalError, match='database "reports" does not exist'):
            await scene.client(dbname="reports")
        await scene.leave()

    play(story())
