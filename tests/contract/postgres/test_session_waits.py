"""What a client of `pool: session` hears of a commit that waits: never a false success.

No standby ever answers here: the servers wait for a name that nobody carries.
"""

from __future__ import annotations

import asyncio

import msgspec
import psycopg
import pytest

from pgherd.postgres.cancelling import Seen, cancel_unless_waiting

SETUP = """
CREATE ROLE ann LOGIN PASSWORD 'right';
CREATE ROLE quiet LOGIN PASSWORD 'right';
ALTER ROLE quiet SET client_min_messages = 'error';
CREATE ROLE hasty LOGIN PASSWORD 'right';
ALTER ROLE hasty SET synchronous_commit = 'local';
GRANT ALL ON SCHEMA public TO public;
CREATE TABLE public.kept (id int, note text);
GRANT ALL ON public.kept TO public;
CREATE PROCEDURE public.twice() LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO public.kept VALUES (7, 'half'); COMMIT; PERFORM pg_sleep(0); END $$;
"""
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
ASLEEP = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
NOBODY = 'ANY 1 ("nobody")'


async def connect(dsn: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True)


class Scene:
    """A server, a proxy in front of it, and somebody who sees both."""

    def __init__(self, server, it, agent, wait_until) -> None:
        self.server, self.it, self.agent, self._until = server, it, agent, wait_until

    async def client(self, user: str = "ann", **more: str) -> psycopg.AsyncConnection:
        return await connect(self.it.dsn(user, "right", **more))

    async def one(self, sql: str) -> int:
        """The one process that a look finds."""
        found: list[tuple[int]] = []

        async def is_there() -> bool:
            found[:] = await (await self.agent.execute(sql)).fetchall()
            return bool(found)

        await self._until(sql, is_there)
        (pid,) = found[0]
        return pid

    async def begin(self, client, sql: str) -> tuple[asyncio.Task[object], int]:
        """Say something whose commit waits; the task, and the process that waits."""
        task = asyncio.create_task(client.execute(sql))
        return task, await self.one(WAITING)

    async def hit(self, sql: str, *, user: str = "ann", **more: str) -> None:
        """Cancel a commit's wait behind the proxy's back: its client hears that nobody knows."""
        client = await self.client(user, **more)
        task, pid = await self.begin(client, sql)
        await self.agent.execute("SELECT pg_cancel_backend(%s)", [pid])
        with pytest.raises(psycopg.OperationalError) as caught:
            await task
        assert caught.value.sqlstate == "08007", (sql, caught.value)
        assert client.closed


async def told(lab, way, certificate, wait_until, story, **options) -> None:
    """Tell a story where every commit waits."""
    server = await lab.primary("a")
    await server.set_names("")
    async with await connect(lab.dsn(server)) as agent:
        await agent.execute(SETUP)
        await server.set_names(NOBODY)
        async with way(server, tls=certificate("proxy").tls, **options) as it:
            await story(Scene(server, it, agent, wait_until))


def test_a_cancelled_wait_is_never_a_success(lab, play, way, certificate, wait_until):
    """Whatever commits, whatever the client does not want to hear, with TLS and without."""

    async def story(scene):
        insert = "INSERT INTO public.kept VALUES (1, 'x')"
        await scene.hit(insert)
        await scene.hit(f"BEGIN; {insert}; COMMIT", sslmode="disable")
        await scene.hit(f"{insert} RETURNING repeat(note, 20000)")
        await scene.hit("CALL public.twice()")
        await scene.hit(f"SET client_min_messages = error; {insert}")
        await scene.hit(f"DO $$ BEGIN SET client_min_messages = 'panic'; END $$; {insert}")
        quiet = f"SELECT set_config('client_min_messages', 'error', false); {insert}"
        await scene.hit(quiet)
        await scene.hit(insert, options="-c client_min_messages=error")
        await scene.hit(f"RESET client_min_messages; DISCARD TEMP; {insert}", user="quiet")

        client = await scene.client()
        task = asyncio.create_task(client.execute(insert, prepare=True))
        pid = await scene.one(WAITING)
        await scene.agent.execute("SELECT pg_cancel_backend(%s)", [pid])
        with pytest.raises(psycopg.OperationalError) as caught:
            await task
        assert caught.value.sqlstate == "08007"

        def all_counted(seen) -> bool:
            return seen.errors.get("commit_unconfirmed") == 10

        await scene.it.counted("they are counted", all_counted)
        await scene.it.says("commit.unconfirmed")

    play(told(lab, way, certificate, wait_until, story))


def test_a_clients_cancel_spares_a_commit_and_ends_all_else(
    lab, play, way, certificate, wait_until
):
    """Withheld while a commit waits, which then ends well; a statement that runs is cancelled."""

    async def story(scene):
        client = await scene.client()
        task, pid = await scene.begin(client, "INSERT INTO public.kept VALUES (2, 'y')")
        assert await cancel_unless_waiting(scene.server, pid) is Seen.WAITS
        await client.cancel_safe()
        await scene.it.counted("withheld", lambda seen: seen.errors.get("cancel_withheld") == 1)
        assert await scene.one(WAITING) == pid
        assert not task.done()
        await scene.server.set_names("")
        await task
        await scene.it.says("cancel.withheld")

        task = asyncio.create_task(client.execute("SELECT pg_sleep(60)"))
        pid = await scene.one(ASLEEP)
        await client.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await task
        assert await cancel_unless_waiting(scene.server, 1) is Seen.GONE

        scene.it.agent_cancels = False  # then it goes by key
        task = asyncio.create_task(client.execute("SELECT pg_sleep(60)"))
        await scene.one(ASLEEP)
        await client.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await task
        await scene.it.says("cancel.unguarded")
        await client.close()

    play(told(lab, way, certificate, wait_until, story))


async def refused(running, *, words: str = "below what this cluster promises") -> None:
    with pytest.raises(psycopg.Error) as caught:
        await running
    assert words in str(caught.value)
    assert caught.value.sqlstate in ("42501", "22P02", None)  # of a login libpq keeps none


def test_the_floor_holds_however_it_is_said(lab, play, way, certificate, wait_until):
    """In statements of every form, in startup options, and kept for a role; other words pass."""

    async def story(scene):
        await scene.server.set_names("")
        client = await scene.client()
        for low in (
            "SET synchronous_commit = off",
            "set session Synchronous_Commit to 'local'",
            'SET LOCAL "synchronous_commit" TO remote_write',
            "SELECT 1; /* and */ SET/**/synchronous_commit=0",
            "SELECT set_config('synchronous_commit', 'off', true)",
            "DO $$ BEGIN PERFORM set_config('synchronous_commit', 'off', false); END $$",
            "ALTER ROLE ann SET synchronous_commit = off",
        ):
            await refused(client.execute(low))
        hidden = "UPDATE pg_settings SET setting = 'off' WHERE name = 'synchronous_commit'"
        await refused(client.execute(hidden), words="cannot be seen")
        await refused(client.execute("SET synchronous_commit = off", prepare=True))
        unseen = client.execute("SELECT set_config('synchronous_commit', %s, false)", ["off"])
        await refused(unseen, words="cannot be seen")
        await client.execute("BEGIN; INSERT INTO public.kept VALUES (3, 'undone')")
        await refused(client.execute("SET LOCAL synchronous_commit = local"))
        await client.execute("COMMIT")  # of a transaction that failed: a rollback
        for fine in (
            "SET synchronous_commit = on; SET synchronous_commit TO DEFAULT; SHOW work_mem",
            "SET synchronous_commit = remote_apply",
            "RESET synchronous_commit",
            "INSERT INTO public.kept VALUES (4, 'SET synchronous_commit = off')",
        ):
            await client.execute(fine)
        found = await client.execute("SELECT id FROM public.kept; SHOW synchronous_commit")
        assert await found.fetchall() == [(4,)]
        found.nextset()
        assert await found.fetchone() == ("on",)
        await client.close()

        await refused(scene.client(options="-c synchronous_commit=off"))
        await refused(scene.client(options="--synchronous-commit=local"))
        await refused(scene.client("hasty"), words="of this role or database")
        await (await scene.client("hasty", options="-c synchronous_commit=on")).close()
        scene.it.control.configure(msgspec.structs.replace(scene.it.settings, sync_floor=False))

        async def is_lifted() -> bool:
            try:
                await (await scene.client("hasty")).close()
            except psycopg.OperationalError:
                return False
            return True

        await wait_until("the floor is lifted", is_lifted)
        free = await scene.client()
        await free.execute("SET synchronous_commit = off")
        await free.close()

    play(told(lab, way, certificate, wait_until, story, sync_floor=True))
