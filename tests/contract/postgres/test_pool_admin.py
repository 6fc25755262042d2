"""The database `pgherd`: what it shows is so on the server, and what it is told happens there."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess

import msgspec
import psycopg
import pytest

from pgherd.route.orders import View
from pgherd.route.poolrules import Database, PoolRules
from pgherd.route.poolsteps import PoolLimits

ONE_VERSION = pytest.mark.parametrize("lab", ["15"], indirect=True)
SETUP = "".join(
    f"CREATE ROLE {name} LOGIN PASSWORD 'right';" for name in ("ann", "boss", "guest", "nobody")
)
PIDS = "SELECT pid FROM pg_stat_activity WHERE usename = 'ann' ORDER BY pid"
RULES = PoolRules(
    PoolLimits(size=2, wait_ms=0),
    databases={"shop": Database(dbname="postgres")},
    admins=("boss",),
    viewers=("guest",),
)


async def connect(dsn: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=None)


class Desk:
    """Somebody at the database `pgherd`, and somebody at the server."""

    def __init__(self, it, admin, agent, wait_until) -> None:
        self.it, self.admin, self.agent, self.wait_until = it, admin, agent, wait_until

    async def show(self, view: str) -> list[dict[str, object]]:
        asked = await self.admin.execute(f"SHOW {view}")
        names = [column.name for column in asked.description]
        return [dict(zip(names, row, strict=True)) for row in await asked.fetchall()]

    async def pids(self) -> list[int]:
        """The processes that ann's sessions have on the server."""
        return [row[0] for row in await (await self.agent.execute(PIDS)).fetchall()]

    async def configure(self, **changes: object) -> None:
        """Bring other settings into force; who knows a later snapshot knows them."""
        self.it.settings = msgspec.structs.replace(self.it.settings, **changes)
        self.it.control.configure(self.it.settings)
        await self.it.told()

    async def until(self, what: str, seen) -> None:
        await self.wait_until(what, seen)

    async def pool(self) -> dict[str, object]:
        """Ann's pool."""
        return next(one for one in await self.show("POOLS") if one["user"] == "ann")


async def told(lab, way, wait_until, story) -> None:
    server = await lab.primary("a")
    await server.set_names("")
    async with await connect(lab.dsn(server)) as agent:
        await agent.execute(SETUP)
        async with (
            way(server, pool="transaction", pools=RULES, connect_timeout_ms=20_000) as it,
            await connect(it.dsn("boss", "right", dbname="pgherd")) as admin,
        ):
            await story(Desk(it, admin, agent, wait_until))


async def pid(one: psycopg.AsyncConnection) -> int:
    return (await (await one.execute("SELECT pg_backend_pid()")).fetchone())[0]


def test_what_is_shown_is_what_is_there(lab, play, way, wait_until):
    async def story(desk: Desk) -> None:
        dsn = desk.it.dsn("ann", "right", dbname="shop", application_name="till")
        idle, busy, third, last = [await connect(dsn) for _ in range(4)]
        await pid(idle)
        await busy.execute("BEGIN")
        await third.execute("BEGIN")
        asked = asyncio.create_task(pid(last))

        async def waits() -> bool:
            return (await desk.pool())["cl_waiting"] == 1

        await desk.until("one waits", waits)

        # The agent hears the same.
        def waits_there(seen) -> bool:
            pools = seen.pools.pools if seen.pools is not None else ()
            return [(one.user, one.server, one.seen.clients_waiting) for one in pools] == [
                ("ann", "a", 1)
            ]

        await desk.it.counted("the agent hears of it", waits_there)
        pool = await desk.pool()
        assert (pool["database"], pool["pool_mode"]) == ("shop", "transaction")
        counted = [pool[name] for name in ("cl_active", "sv_active", "sv_idle", "sv_login")]
        assert counted == [3, 2, 0, 0]

        servers = [one for one in await desk.show("SERVERS") if one["user"] == "ann"]
        assert sorted(one["remote_pid"] for one in servers) == await desk.pids()
        assert {one["state"] for one in servers} == {"active"}
        assert {(one["server"], one["port"]) for one in servers} == {("a", desk.it.server.port)}
        clients = {one["id"]: one for one in await desk.show("CLIENTS")}
        assert sorted(one["state"] for one in clients.values()) == [
            *("active", "active", "idle", "waiting")
        ]
        assert {one["application_name"] for one in clients.values()} == {"till"}
        ports = {one.fileno(): one for one in (idle, busy, third, last)}
        assert {one["port"] for one in clients.values()} == {_own_port(fd) for fd in ports}
        for one in servers:
            assert clients[one["link"]]["link"] == one["id"]

        shop = next(one for one in await desk.show("DATABASES") if one["name"] == "shop")
        assert (shop["database"], shop["pool_size"], shop["paused"]) == ("postgres", 2, 0)
        assert (shop["current_connections"], shop["current_client_connections"]) == (2, 4)
        lists = {one["list"]: one["items"] for one in await desk.show("LISTS")}
        assert (lists["used_clients"], lists["used_servers"], lists["waiting_clients"]) == (4, 2, 1)
        await busy.execute("COMMIT")
        assert await asked
        await third.execute("COMMIT")
        pool = await desk.pool()
        assert [pool[name] for name in ("cl_waiting", "sv_active", "sv_idle")] == [0, 0, 2]
        stats = next(one for one in await desk.show("STATS") if one["database"] == "shop")
        before = stats["total_server_assignment_count"]
        for _ in range(5):
            await pid(idle)
        stats = next(one for one in await desk.show("STATS") if one["database"] == "shop")
        assert stats["total_server_assignment_count"] == before + 5
        assert stats["total_query_count"] >= 5
        assert stats["total_wait_time"] > 0
        config = {one["key"]: one for one in await desk.show("CONFIG")}
        assert (config["proxy.pools.size"]["value"], config["proxy.pools.size"]["default"]) == (
            *("2", "20"),
        )
        for one in (idle, busy, third, last):
            await one.close()

    play(told(lab, way, wait_until, story))


def _own_port(fd: int) -> int:
    import socket

    with socket.socket(fileno=os.dup(fd)) as copy:
        return copy.getsockname()[1]


@ONE_VERSION
def test_pause_empties_the_server_and_resume_fills_it(lab, play, way, wait_until):
    async def story(desk: Desk) -> None:
        dsn = desk.it.dsn("ann", "right", dbname="shop")
        one, other = await connect(dsn), await connect(dsn)
        await pid(other)
        await one.execute("BEGIN")

        # PAUSE waits for the transaction that runs, and no other begins meanwhile.
        async with await connect(desk.it.dsn("boss", "right", dbname="pgherd")) as boss:
            heard: list[str] = []
            boss.add_notice_handler(lambda notice: heard.append(notice.message_primary or ""))
            pausing = asyncio.create_task(boss.execute("PAUSE shop"))

            async def is_paused() -> bool:
                shops = [row for row in await desk.show("DATABASES") if row["name"] == "shop"]
                return [row["paused"] for row in shops] == [1]

            await desk.until("it is paused", is_paused)
            waiting = asyncio.create_task(pid(other))
            assert not pausing.done()
            before = await pid(one)

            async def is_alone() -> bool:
                return await desk.pids() == [before]

            await desk.until("what was idle is gone", is_alone)
            # Who does not want to wait for that is let go, and the pause is in force all the same.
            await boss.cancel_safe()
            with pytest.raises(psycopg.errors.QueryCanceled, match="the pause is in force"):
                await pausing
            assert await is_paused()
            pausing = asyncio.create_task(boss.execute("PAUSE shop"))
            await one.execute("COMMIT")
            assert (await pausing).statusmessage == "PAUSE"
            assert "in use" in heard[0]

        async def is_empty() -> bool:
            return not await desk.pids()

        await desk.until("ann has no process", is_empty)

        # It outlasts the client that asked for it, and a server that is away for longer than
        # clients wait for one otherwise: this is what it is for.
        await desk.configure(connect_timeout_ms=300)
        await desk.it.told(away=True)
        await asyncio.sleep(1)
        assert not waiting.done()
        newcomer = asyncio.create_task(connect(desk.it.dsn("ann", "right", dbname="shop")))
        await desk.configure(connect_timeout_ms=20_000)
        assert (await desk.admin.execute("RESUME shop")).statusmessage == "RESUME"
        assert await waiting != before
        await (await newcomer).close()
        assert await desk.pids()
        for name in ("shop", ""):
            with pytest.raises(psycopg.Error, match="paused") as caught:
                await desk.admin.execute(f"RESUME {name}")
            assert caught.value.sqlstate == "55000"

        # All of them at once.
        await desk.admin.execute("PAUSE")
        await desk.until("ann has no process", is_empty)
        with pytest.raises(psycopg.Error, match="all databases are paused"):
            await desk.admin.execute("RESUME shop")
        await desk.admin.execute("RESUME")
        assert await pid(one)

        # RECONNECT: other processes, and nobody in a transaction is torn out of it.
        await one.execute("BEGIN")
        before, others = await pid(one), await desk.pids()
        assert (await desk.admin.execute("RECONNECT shop")).statusmessage == "RECONNECT"
        assert await pid(one) == before
        await one.execute("COMMIT")
        assert await pid(one) not in others
        assert await pid(other) not in others
        await one.close()
        await other.close()

    play(told(lab, way, wait_until, story))


@ONE_VERSION
def test_who_may_and_what_psql_makes_of_it(lab, play, way, wait_until):
    async def story(desk: Desk) -> None:
        it = desk.it
        with pytest.raises(psycopg.OperationalError, match="may not use the database pgherd"):
            await connect(it.dsn("nobody", "right", dbname="pgherd"))
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await connect(it.dsn("boss", "wrong", dbname="pgherd"))
        async with await connect(it.dsn("guest", "right", dbname="pgherd")) as guest:
            for view in View:
                assert await (await guest.execute(f"SHOW {view}")).fetchall() is not None
            for order in ("PAUSE", "RESUME shop", "RECONNECT"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await guest.execute(order)
            # Rights are looked up at each statement.
            await desk.configure(pools=msgspec.structs.replace(RULES, viewers=()))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await guest.execute("SHOW POOLS")
        for statement, code in (("SELECT 1", "42601"), ("PAUSE a b", "42601")):
            with pytest.raises(psycopg.Error) as caught:
                await desk.admin.execute(statement)
            assert caught.value.sqlstate == code
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            await desk.admin.execute("SHOW POOLS", binary=True)
        assert await desk.show("VERSION")  # the session goes on
        told = await asyncio.to_thread(psql, lab, it)
        assert "SHOW DATABASES" in told
        assert "PAUSE\nRESUME\n" in told

    def psql(lab, it) -> str:
        program = lab.binaries.bin_dir / "psql"
        if not program.exists():
            found = shutil.which("psql")
            assert found is not None
            program = found
        done = subprocess.run(
            [program, "-X", it.dsn("boss", "right", dbname="pgherd")],
            input="SHOW HELP;\n\\x\nSHOW POOLS;\nPAUSE;\nRESUME;\n;\n",
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        assert "ERROR" not in done.stderr, done.stderr
        return done.stdout

    play(told(lab, way, wait_until, story))
