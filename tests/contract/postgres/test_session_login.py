"""Logins through a proxy that ends SCRAM (`pool: session`), each compared with a direct one."""

from __future__ import annotations

import asyncio

import msgspec
import psycopg
import pytest

from pgherd.postgres.passwords import read_passwords
from pgherd.relay.messages import ProxyTls
from pgherd.wire.answer import Refusal, error_response
from pgherd.wire.startup import SSL_REQUEST

ROLES = """
CREATE ROLE ann LOGIN PASSWORD 'right';
CREATE ROLE "Bob-Ünal" LOGIN PASSWORD 'right';
CREATE ROLE bare LOGIN;
CREATE ROLE expired LOGIN PASSWORD 'right' VALID UNTIL '2001-01-01';
CREATE ROLE closed NOLOGIN PASSWORD 'right';
SET password_encryption = 'md5';
CREATE ROLE old LOGIN PASSWORD 'right';
"""


async def roles(lab, server) -> None:
    """Have the roles that these tests log in as."""
    await server.set_names("")
    async with await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True) as agent:
        await agent.execute(ROLES)


async def refusal(dsn: str) -> tuple[str | None, str]:
    """SQLSTATE and text of a login that must fail, without a hint."""
    sqlstate, said = await told(dsn)
    return sqlstate, said.partition("\n")[0]


async def told(dsn: str) -> tuple[str | None, str]:
    """SQLSTATE and all that is said of a login that must fail."""
    with pytest.raises(psycopg.OperationalError) as caught:
        await psycopg.AsyncConnection.connect(dsn)
    return caught.value.sqlstate, str(caught.value).rpartition("FATAL:")[2].strip()


def test_whoever_may_log_in_may_and_the_others_hear_what_postgresql_says(lab, play, way):
    """A right password is enough; a refusal has the words of a direct one."""

    async def story():
        server = await lab.primary("a")
        await roles(lab, server)
        async with way(server) as it:
            for user in ("ann", "Bob-Ünal"):
                async with await psycopg.AsyncConnection.connect(it.dsn(user, "right")) as one:
                    cursor = await one.execute("SELECT current_user")
                    assert await cursor.fetchone() == (user,)
            for user, password in (
                ("ann", "wrong"),
                ("nobody", "right"),
                ("bare", "right"),
                ("old", "wrong"),
                ("expired", "right"),
                ("closed", "right"),
            ):
                through = await refusal(it.dsn(user, password))
                assert through == await refusal(it.dsn(user, password, direct=True)), user
            _, said = await told(it.dsn("old", "right"))
            assert "password authentication failed" in said
            assert "This port takes passwords kept as SCRAM-SHA-256" in said
            no_base = it.dsn("ann", "right", dbname="nowhere")
            assert "does not exist" in (await refusal(no_base))[1]
            await it.says(
                "user=old",
                "not kept as SCRAM-SHA-256",
                'why="there is no such role"',
                'why="the role has no password"',
            )
            assert "right" not in it.log
            reader = server.reading.backend_pid
            await server.close_gate()
            assert server.reading.backend_pid == reader, "the gate waits for whoever asks again"
            found = await read_passwords(server, ("ann", "nobody", "bare"))
            assert set(found.stored) == {"ann", "bare"}

    play(story())


def test_a_new_password_counts_at_once_and_waiting_ends_with_the_reason(lab, play, way):
    """Nothing is cached; without an agent's answer or a primary a client waits, then hears why."""

    async def story():
        server = await lab.primary("a")
        await roles(lab, server)
        async with way(server, connect_timeout_ms=2500) as it:
            for password in ("second", "third"):
                await (await psycopg.AsyncConnection.connect(it.dsn("ann", "right"))).close()
                async with await psycopg.AsyncConnection.connect(
                    lab.dsn(server), autocommit=True
                ) as agent:
                    await agent.execute(f"ALTER ROLE ann PASSWORD '{password}'")
                await (await psycopg.AsyncConnection.connect(it.dsn("ann", password))).close()
                assert (await refusal(it.dsn("ann", "right")))[0] is None  # libpq keeps no code
                async with await psycopg.AsyncConnection.connect(
                    lab.dsn(server), autocommit=True
                ) as agent:
                    await agent.execute("ALTER ROLE ann PASSWORD 'right'")
            it.problem = "its store is being rebuilt"
            _, said = await refusal(it.dsn("ann", "right"))
            assert "passwords cannot be checked now: its store is being rebuilt" in said
            it.problem = ""
            it.publish(term=2, away=True)
            _, said = await refusal(it.dsn("ann", "right"))
            assert "no primary" in said
            late = asyncio.create_task(psycopg.AsyncConnection.connect(it.dsn("ann", "right")))
            await asyncio.sleep(0.4)
            assert not late.done()
            it.publish(term=3)
            await (await late).close()

    play(story())


@pytest.mark.parametrize("lab", ["15"], indirect=True)
def test_a_server_that_is_starting_is_waited_for(lab, play, way, wait_until):
    """57P03 of a server is not the client's business while there is time."""

    async def story():
        server = await lab.primary("a")
        await roles(lab, server)
        starting = error_response(Refusal("57P03", "the database system is starting up"))
        refused = 0

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal refused
            assert await reader.readexactly(8) == SSL_REQUEST
            writer.write(b"N")
            await reader.read(1)
            writer.write(starting)
            writer.close()
            refused += 1

        async def asked_again() -> bool:
            return refused >= 2

        place = await asyncio.start_server(refuse, "127.0.0.1", 0)
        async with way(server, connect_timeout_ms=15_000) as it:
            it.publish(term=2, port=place.sockets[0].getsockname()[1])
            await it.counted("it knows the stand-in", lambda seen: seen.term == 2)
            late = asyncio.create_task(psycopg.AsyncConnection.connect(it.dsn("ann", "right")))
            await wait_until("the stand-in was asked twice", asked_again)
            assert not late.done()
            it.publish(term=3)
            await (await late).close()
        place.close()

    play(story())


def test_tls_ends_at_the_proxy_and_begins_again_to_the_server(
    lab, play, way, certificate, wait_until
):
    """Channel binding with the proxy's certificate, which is read again when it changes."""

    async def story():
        files = certificate("server")
        has_tls = lab.binaries.major == 15
        ssl = {"ssl": "on", "ssl_cert_file": str(files.cert), "ssl_key_file": str(files.key)}
        server = await lab.primary("a", parameters=ssl if has_tls else {})
        await roles(lab, server)
        own = certificate("proxy")
        async with way(server, tls=own.tls, startup_ms=20_000) as it:

            def dsn(**more: str) -> str:
                return it.dsn("ann", "right", **more)

            async def encrypted(**more: str) -> bool:
                async with await psycopg.AsyncConnection.connect(dsn(**more)) as one:
                    assert one.pgconn.ssl_in_use == (more.get("sslmode") != "disable")
                    sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
                    (found,) = await (await one.execute(sql)).fetchone()
                    return found

            binding = {"sslmode": "require", "channel_binding": "require"}
            assert await encrypted(**binding) == has_tls
            assert await encrypted(sslmode="disable") == has_tls
            verified = {"sslmode": "verify-full", "sslrootcert": str(own.cert)}
            assert await encrypted(**verified) == has_tls
            kept = own.cert.read_bytes()
            own.cert.write_bytes(b"nonsense")
            copy = lab.base / "copy.crt"
            copy.write_bytes(kept)
            first = {**verified, "sslrootcert": str(copy)}
            assert await encrypted(**first) == has_tls
            await it.says("certificate.kept")
            own.renew("second")
            assert await encrypted(**verified, channel_binding="require") == has_tls
            _, said = await refusal(dsn(**first))
            assert "certificate verify failed" in said
            wrong = it.dsn("ann", "wrong", sslmode="require")
            assert "password authentication failed" in (await refusal(wrong))[1]

            needed = ProxyTls(str(own.cert), str(own.key), required=True)
            it.control.configure(msgspec.structs.replace(it.settings, tls=needed))

            async def is_needed() -> bool:
                try:
                    await (await psycopg.AsyncConnection.connect(dsn(sslmode="disable"))).close()
                except psycopg.OperationalError as error:
                    return "without TLS" in str(error)
                return False

            await wait_until("TLS is needed", is_needed)
            assert await encrypted(sslmode="require") == has_tls

    play(story())


def test_asyncpg_notices_nothing(lab, play, way, certificate):
    """A driver with a protocol of its own: prepared statements, COPY, LISTEN, a cancelled query."""
    asyncpg = pytest.importorskip("asyncpg")

    async def tour(it, port: int, ssl: str) -> list[object]:
        login = {"host": "127.0.0.1", "port": port, "user": "ann", "database": "postgres"}
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(**login, password="wrong", ssl=ssl)
        one = await asyncpg.connect(**login, password="right", ssl=ssl)
        seen: list[object] = [await one.fetchval("SELECT current_user")]
        for number in range(5):
            seen.append(await one.fetchval("SELECT $1::int + 1", number))
        await one.execute("CREATE TEMP TABLE t (i int, note text)")
        rows = [(number, "x" * 100) for number in range(2000)]
        seen.append(await one.copy_records_to_table("t", records=rows))
        heard: asyncio.Queue[str] = asyncio.Queue()
        await one.add_listener("news", lambda *said: heard.put_nowait(said[3]))
        await one.execute("NOTIFY news, 'of the day'")
        seen.append(await asyncio.wait_for(heard.get(), 10))
        with pytest.raises(TimeoutError):
            await one.fetchval("SELECT pg_sleep(60)", timeout=0.3)
        seen.append(await one.fetchval("SELECT count(*) FROM t"))
        async with one.transaction():
            seen += [row["i"] async for row in one.cursor("SELECT i FROM t LIMIT 60", prefetch=7)]
        await one.close()
        return seen

    async def story():
        server = await lab.primary("a")
        await roles(lab, server)
        async with way(server, tls=certificate("proxy").tls) as it:
            direct = await tour(it, it.server.port, "prefer")
            assert await tour(it, it.port, "disable") == direct
            assert await tour(it, it.port, "require") == direct
            await it.counted("its cancels came through", lambda seen: seen.cancels_total == 2)

    play(story())


def test_a_standby_in_the_primarys_place_gets_no_session(lab, play, way, wait_until):
    """Whoever comes waits for the primary: no statement meets 25006 for a change of roles."""

    async def story():
        server = await lab.primary("a")
        await roles(lab, server)
        standby = await lab.replica("b", server)
        async with way(server, connect_timeout_ms=1_500) as it:
            await it.told(port=standby.port)
            assert "a is a standby now" in (await told(it.dsn("ann", "right")))[1]
            waiting = asyncio.create_task(
                psycopg.AsyncConnection.connect(it.dsn("ann", "right"), autocommit=True)
            )
            await it.counted("it waits", lambda seen: seen.held == 1)
            await it.told()
            one = await waiting
            await one.execute("SET default_transaction_read_only = on")
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                await one.execute("CREATE TABLE public.mine ()")
            await one.close()

    play(story())
