"""Clients that share servers: none ever meets what another one left, or what was meant for it."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import struct

import psycopg
import pytest

from pgherd.route.poolrules import PoolRules
from pgherd.route.poolsteps import PoolLimits

SETUP = """
CREATE ROLE ann LOGIN PASSWORD 'right';
CREATE TABLE public.tally (id int PRIMARY KEY, n int);
INSERT INTO public.tally VALUES (1, 0), (2, 0);
ALTER TABLE public.tally OWNER TO ann;
CREATE SEQUENCE public.drawn;
ALTER SEQUENCE public.drawn OWNER TO ann;
"""
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'ann'"
LOCKS = """SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
            WHERE usename = 'ann' AND (locktype = 'advisory' OR mode = 'RowExclusiveLock')"""
KEPT = " WHERE pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')"


RIDES = importlib.util.find_spec("pgherd.relay._shuttle") is not None


def sized(size: int, **more: int) -> PoolRules:
    return PoolRules(limits=PoolLimits(size=size, **more))


async def prepared(lab):
    server = await lab.primary("a")
    await server.set_names("")
    async with await agent_of(lab, server) as agent:
        await agent.execute(SETUP)
    return server


async def agent_of(lab, server) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True)


async def connect(it, **more) -> psycopg.AsyncConnection:
    dsn = it.dsn("ann", "right", **more)
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=None)


async def value(session, statement: str, *given, **more) -> object:
    row = await (await session.execute(statement, given or None, **more)).fetchone()
    return row[0]


async def pid(session) -> object:
    return await value(session, "SELECT pg_backend_pid()")


async def code(waits) -> str | None:
    """The SQLSTATE of a statement that must fail."""
    with pytest.raises(psycopg.Error) as caught:
        await waits
    return caught.value.sqlstate


def kill(session: psycopg.AsyncConnection) -> None:
    """Let a client die: its kernel resets the connection."""
    with socket.socket(fileno=socket.dup(session.pgconn.socket)) as handle:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    session.pgconn.finish()


def test_a_client_that_dies_leaves_neither_lock_nor_server_behind(lab, play, way, wait_until):
    """In a transaction, in COPY, in the middle of a statement, with what a session keeps."""

    async def die(it, how: int) -> None:
        one = await connect(it)
        await one.execute("BEGIN")
        await one.execute("UPDATE tally SET n = n + 1 WHERE id = 1")
        if how == 1:
            await one.execute("SELECT pg_advisory_lock(7)")
        if how == 2:
            one.pgconn.send_query(b"COPY tally FROM STDIN")
            one.pgconn.flush()
            await asyncio.sleep(0.05)
        if how == 3:
            one.pgconn.send_query(b"SELECT pg_sleep(0.3)")
            one.pgconn.flush()
            await asyncio.sleep(0.05)
        if how == 4:
            await one.execute("COMMIT")
            await one.execute("SELECT pg_advisory_lock(7)")
            await one.execute("CREATE TEMP TABLE tally (id int)")
        kill(one)

    async def story():
        server = await prepared(lab)
        async with way(server, pool="transaction", pools=sized(2)) as it:
            agent = await agent_of(lab, server)
            async with agent:

                async def is_clear() -> bool:
                    return await value(agent, LOCKS) == 0

                for how in (0, 1, 2, 3, 4) * 2:
                    await die(it, how)
                    await wait_until(f"locks are gone after {how}", is_clear)
                    other = await connect(it)
                    await other.execute("UPDATE tally SET n = n + 10 WHERE id = 1")
                    assert await value(other, "SELECT count(*) FROM tally") == 2
                    await other.close()
                both = [await connect(it) for _ in range(2)]
                for one in both:  # no place in the pool was lost
                    await one.execute("BEGIN")
                assert await value(agent, SESSIONS) == 2
                assert await value(both[0], "SELECT n FROM tally WHERE id = 1") == 102
                for one in both:
                    await one.close()

    play(story())


def test_what_a_session_keeps_keeps_its_server_and_nobody_else_sees_it(lab, play, way, wait_until):
    """Temporary tables, locks, LISTEN, cursors, settings; DISCARD ALL and the end let go of it."""
    keeping = [
        "CREATE TEMP TABLE mine (id int)",
        "SELECT pg_advisory_lock(8)",
        "LISTEN news",
        "SET work_mem = '1MB'",
        "PREPARE mine AS SELECT 1",
        "BEGIN; DECLARE mine CURSOR WITH HOLD FOR SELECT 1; COMMIT",
    ]
    left = """SELECT (SELECT count(*) FROM pg_class WHERE relname = 'mine'
                                                 AND pg_table_is_visible(oid)),
                     (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
                     (SELECT count(*) FROM pg_listening_channels()),
                     (SELECT count(*) FROM pg_cursors WHERE name = 'mine'),
                     (SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine'),
                     current_setting('work_mem')"""

    async def story():
        server = await prepared(lab)
        async with way(server, pool="transaction", pools=sized(2)) as it:
            clean, other, keeper = [await connect(it) for _ in range(3)]
            first = await pid(clean)
            assert await pid(keeper) == first
            for statement in keeping:
                await keeper.execute(statement)
                held = await pid(keeper)
                assert [await pid(clean) for _ in range(2)] != [held, held]
                assert await pid(keeper) == held, statement
                await keeper.execute("DISCARD ALL")
                await asyncio.gather(clean.execute("BEGIN"), other.execute("BEGIN"))
                assert held in {await pid(clean), await pid(other)}, "it has none of its own"
                await asyncio.gather(clean.execute("COMMIT"), other.execute("COMMIT"))
            await keeper.execute("; ".join(keeping[:1]))
            for statement in keeping[1:]:
                await keeper.execute(statement)
            held = await pid(keeper)
            await keeper.close()

            async def ended() -> bool:
                return await value(clean, "SELECT count(*) FROM pg_stat_activity" + KEPT) == 0

            await wait_until("its lock is gone", ended)
            both = clean, await connect(it)
            for one in both:
                await one.execute("BEGIN")
            pids = [await pid(one) for one in both]
            assert held in pids, "its server is lent again"
            found = await (await both[pids.index(held)].execute(left)).fetchone()
            assert found == (0, 0, 0, 0, 0, "4MB")
            for one in both:
                await one.close()

    play(story())


@pytest.mark.parametrize("lab", ["15"], indirect=True)
def test_a_sequence_tells_nobody_what_another_one_drew(lab, play, way):
    """The first question of a session is refused, unless it draws itself; then its server stays."""
    current = "SELECT currval('drawn')"

    async def story():
        server = await prepared(lab)
        async with way(server, pool="transaction", pools=sized(3)) as it:
            one, two = await connect(it), await connect(it)
            assert await value(two, "SELECT nextval('drawn')") == 1
            assert await pid(one) == await pid(two)
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="pgherd"):
                await one.execute(current)
            assert await value(one, "SELECT nextval('drawn')") == 2
            assert await value(two, "SELECT nextval('drawn')") == 3
            assert await value(one, current) == 2
            prepared_one = await code(two.execute(current, prepare=True))
            assert prepared_one == "55000"
            three = await connect(it)
            await three.execute("BEGIN")
            assert await value(three, "SELECT nextval('drawn')") == 4
            assert await value(three, current) == 4
            await three.execute("COMMIT")
            for session in (one, two, three):
                await session.close()

    play(story())


def test_settings_are_each_clients_own(lab, play, way):
    """Also those of its startup packet; a value that no server takes is refused in its words."""

    async def story():
        server = await prepared(lab)
        async with way(server, pool="transaction", pools=sized(1)) as it:
            one = await connect(it, options="", application_name="first")
            two = await connect(it, application_name="second", client_encoding="latin1")
            same = await pid(one)
            for _ in range(2):
                await one.execute("SET TimeZone = 'Asia/Tokyo'")
                await two.execute("SET DateStyle = 'German, DMY'")
                for name, mine, others in (
                    ("TimeZone", "Asia/Tokyo", None),
                    ("DateStyle", "ISO, MDY", "German, DMY"),
                    ("application_name", "first", "second"),
                    ("client_encoding", "UTF8", "LATIN1"),
                ):
                    assert await value(one, f"SHOW {name}") == mine
                    assert await value(two, f"SHOW {name}") == (others or "Etc/UTC")
                    assert two.info.parameter_status(name) == (others or "Etc/UTC")
                await one.execute("BEGIN; SET TimeZone = 'America/Lima'; ROLLBACK")
                await two.execute("RESET DateStyle")
                assert await value(two, "SHOW DateStyle") == "ISO, MDY"
            assert await pid(one) == await pid(two) == same
            for level in ("SERIALIZABLE", "REPEATABLE READ"):
                await one.execute(f"BEGIN; SET TRANSACTION ISOLATION LEVEL {level}; COMMIT")
                assert await pid(two) == same, "that ends with the transaction"
            geqo = await connect(it, options="-c geqo=off")
            assert await value(geqo, "SHOW geqo") == "off"
            assert await value(one, "SHOW geqo") == "on"
            with pytest.raises(psycopg.OperationalError, match="LATIN77"):
                await connect(it, client_encoding="LATIN77")
            for session in (one, two, geqo):
                await session.close()

    play(story())


def test_a_cancel_hits_nobody_else(lab, play, way, wait_until):
    """A key reaches the server that its client has right now; while it is on its way no other
    client gets that server, and never if it may still come."""

    async def story():
        server = await prepared(lab)
        async with way(server, pool="transaction", pools=sized(1)) as it:
            one, two = await connect(it), await connect(it)
            first = await pid(one)
            may_answer = asyncio.Event()
            cancel = it.cancelled

            async def late(asked):
                await may_answer.wait()
                return await cancel(asked)

            it.cancel = late
            await one.execute("BEGIN")
            cancelling = asyncio.create_task(one.cancel_safe())
            await it.counted("the agent is asked", lambda seen: seen.cancels_total == 1)
            await one.execute("COMMIT")
            waiting = asyncio.create_task(pid(two))
            await it.counted("nobody gets the server", lambda seen: seen.held == 1)
            may_answer.set()
            assert await waiting == first
            await cancelling

            may_answer.clear()
            await one.execute("BEGIN")
            cancelling = asyncio.create_task(one.cancel_safe())
            await it.counted("the agent is asked", lambda seen: seen.cancels_total == 2)
            await one.execute("COMMIT")
            assert await pid(two) != first, "nobody knows whether the agent will cancel yet"
            may_answer.set()
            await cancelling

            it.cancel = cancel
            for number in range(20):
                running = asyncio.create_task(one.execute("SELECT pg_sleep(0.01)"))
                other = asyncio.create_task(two.execute("SELECT pg_sleep(0.01)"))
                await asyncio.sleep(0.001 * number)
                await one.cancel_safe()
                await asyncio.gather(running, return_exceptions=True)
                await other
            await one.execute("BEGIN")
            waiting = asyncio.create_task(code(two.execute("SELECT 1")))
            await it.counted("it waits", lambda seen: seen.held == 1)
            await two.cancel_safe()
            assert await waiting == "57014"
            await one.execute("COMMIT")
            assert await value(two, "SELECT 1") == 1
            await one.close()
            await two.close()

    play(story())


@pytest.mark.parametrize("lab", ["15"], indirect=True)
def test_who_waits_is_served_and_a_killed_server_is_replaced(lab, play, way, wait_until):
    """An idle server's end is nobody's business; one in a transaction is its client's."""

    async def story():
        server = await prepared(lab)
        async with way(server, pool="transaction", pools=sized(2)) as it:
            many = [await connect(it) for _ in range(20)]
            for _ in range(3):
                add = "UPDATE tally SET n = n + 1 WHERE id = 1"
                await asyncio.gather(*(one.execute(add) for one in many))
            assert await value(many[0], "SELECT n FROM tally WHERE id = 1") == 60
            async with await agent_of(lab, server) as agent:
                assert await value(agent, SESSIONS) == 2
                inside = many[0]
                await inside.execute("BEGIN")
                end = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
                assert await value(agent, f"{end} WHERE usename = 'ann'") == 2
                assert await code(inside.execute("SELECT 1")) == "57P01"
                for one in many[1:]:
                    assert await value(one, "SELECT 1") == 1
                assert await value(agent, SESSIONS) <= 2
            for one in many:
                await one.close()

    play(story())


@pytest.mark.parametrize("lab", ["15"], indirect=True)
def test_a_hold_and_a_new_reign_cost_nothing_but_time(lab, play, way, wait_until):
    """What runs may finish; what begins waits, for the end of the hold or another primary."""

    async def story():
        server = await prepared(lab)
        async with way(server, pool="transaction", pools=sized(3)) as it:
            idle, inside, keeper, busy = [await connect(it) for _ in range(4)]
            before = await pid(idle)
            await inside.execute("BEGIN")
            await it.told(hold="one")
            waiting = asyncio.create_task(pid(idle))
            await it.counted("it is held", lambda seen: seen.held == 1)
            assert await value(inside, "SELECT 1") == 1
            assert not it.control.is_quiet("one")
            await inside.execute("COMMIT")

            async def is_quiet() -> bool:
                return it.control.is_quiet("one")

            await wait_until("nothing runs", is_quiet)
            late = asyncio.create_task(pid(inside))
            await it.counted("both are held", lambda seen: seen.held == 2)
            await it.told(term=2)
            assert await waiting != before, "it borrowed from the new reign's pool"
            await late

            await keeper.execute("CREATE TEMP TABLE mine (id int)")
            await inside.execute("BEGIN")
            sleeping = asyncio.create_task(code(busy.execute("SELECT pg_sleep(60)")))
            await asyncio.sleep(0.3)
            await it.told(term=3, away=True)
            assert await code(keeper.execute("SELECT 1")) == "57P01"
            assert await code(inside.execute("SELECT 1")) == "57P01"
            assert await sleeping == "08007"
            waiting = asyncio.create_task(pid(idle))
            await it.counted("it waits", lambda seen: seen.held == 1)
            await it.told(term=4)
            await waiting
            await idle.close()

    play(story())


@pytest.mark.parametrize("lab", ["15"], indirect=True)
def test_no_server_is_told_in_time_and_old_keys_open_nothing(lab, play, way):
    """57P03 after connect_timeout; a changed password ends new servers for those that are in."""

    async def story():
        server = await prepared(lab)
        async with way(server, pool="transaction", connect_timeout_ms=1500) as it:
            one = await connect(it)
            await it.told(term=2, away=True)
            with pytest.raises(psycopg.OperationalError, match="nothing was sent to a server"):
                await one.execute("SELECT 1")
            two = await connect(it)
            async with await agent_of(lab, server) as agent:
                await agent.execute("ALTER ROLE ann PASSWORD 'other'")
                await it.told(term=3)
                assert await code(two.execute("SELECT 1")) == "28P01"
                dsn = it.dsn("ann", "other")
                new = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
                assert await value(new, "SELECT 1") == 1
                await new.close()

    play(story())


@pytest.mark.parametrize("lab", ["15"], indirect=True)
def test_transactions_are_spread_over_replicas_and_leave_one_in_maintenance(lab, play, way):
    """Each goes where the fewest are; one that does not end has until drain_timeout."""

    async def story():
        server = await prepared(lab)
        options = {"pool": "transaction", "route": "replica", "drain_ms": 1500}
        async with way(server, pools=sized(4), **options) as it:

            def there(**expected: int):
                return lambda seen: seen.sessions.get(f"replica:{it.port}", {}) == expected

            await it.told(tended="")
            both = [await connect(it) for _ in range(2)]
            for one in both:
                await one.execute("BEGIN")
            await it.counted("one at each", there(b=1, c=1))
            await it.told(tended="b")
            for one in both:
                await one.execute("COMMIT")
                await one.execute("BEGIN")
            await it.counted("both at c", there(c=2))
            await it.told(tended="c")
            await both[0].execute("COMMIT")
            await both[0].execute("BEGIN")
            await it.counted("the one that ended is at b", there(b=1, c=1))
            await it.counted("the other one had its time", there(b=1))
            assert await code(both[1].execute("SELECT 1")) == "57P01"
            await both[0].execute("COMMIT")
            assert await value(both[0], "SELECT 1") == 1
            await both[0].close()

    play(story())


def test_sessions_with_tls_on_either_side_are_served_in_python(lab, play, way, certificate):
    """PostgreSQL 15 speaks TLS here, 18 does not."""

    async def story():
        files, own = certificate("server"), certificate("proxy")
        has_tls = lab.binaries.major == 15
        ssl = {"ssl": "on", "ssl_cert_file": str(files.cert), "ssl_key_file": str(files.key)}
        server = await lab.primary("a", parameters=ssl if has_tls else {})
        await server.set_names("")
        async with await agent_of(lab, server) as agent:
            await agent.execute(SETUP)
        async with way(server, pool="transaction", tls=own.tls) as it:

            def served(least: int, *, carried: bool):
                def seen(counters) -> bool:
                    if counters.pools is None:
                        return False
                    done = counters.pools.done
                    return done["lent"] >= least and bool(done["carried"]) == carried

                return seen

            for sslmode, carried in (("require", False), ("disable", not has_tls and RIDES)):
                one = await connect(it, sslmode=sslmode)
                for number in range(30):
                    assert await value(one, f"SELECT {number}") == number
                await it.counted("where it was served", served(30, carried=carried))
                counted = it.control.counters()
                assert counted.pools.waited_ms < 2_500, "nobody waits for what cannot ride"
                await one.close()

    play(story())
