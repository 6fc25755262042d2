"""Statements of one session, each at the server where it belongs: a real primary, a real standby.

`here()` tells where a statement ran: a function that its owner calls stable, though it is not.
"""

from __future__ import annotations

import asyncio
import contextlib

import psycopg
import pytest

SETUP = """
    CREATE ROLE ann LOGIN PASSWORD 'right';
    CREATE TABLE t (i int);
    CREATE TABLE log (i int);
    GRANT ALL ON t, log TO ann;
    GRANT CREATE ON SCHEMA public TO ann;
    CREATE FUNCTION here() RETURNS text STABLE LANGUAGE sql
      AS $$ SELECT CASE WHEN pg_is_in_recovery() THEN 'replica' ELSE 'primary' END $$;
    CREATE FUNCTION writes() RETURNS text LANGUAGE sql AS
      $$ INSERT INTO log VALUES (1); SELECT here() $$;
    CREATE FUNCTION lies(int) RETURNS text STABLE LANGUAGE plpgsql AS
      $$ BEGIN RETURN (SELECT writes()); END $$;
    CREATE FUNCTION naps(float) RETURNS text STABLE LANGUAGE plpgsql AS
      $$ BEGIN PERFORM pg_sleep($1); RETURN here(); END $$;
    CREATE VIEW loud AS SELECT writes() AS here;
    CREATE SEQUENCE s;
    GRANT ALL ON s, loud TO ann
"""
HERE = "SELECT here()"


class Pair:
    """A primary, a standby, and a way in with `route: auto` before them."""

    def __init__(self, it, primary, standby) -> None:
        self.it, self.primary, self.standby = it, primary, standby

    async def connect(self, **more) -> psycopg.AsyncConnection:
        dsn = self.it.dsn("ann", "right")
        return await psycopg.AsyncConnection.connect(dsn, autocommit=True, **more)

    async def told_of(self, session, *statements: str) -> None:
        """Say statements until the proxy has learnt all names in them."""
        for statement in statements:
            for _ in range(500):
                await value(session, statement)
                if "not known yet" not in (await last(session))[3]:
                    break
                await asyncio.sleep(0.01)
            else:
                raise AssertionError(f"names are never explained: {statement}")

    async def caught_up(self) -> None:
        """Until the standby has replayed all that the primary has."""
        written = await value(self.primary, "SELECT pg_current_wal_insert_lsn()::text")
        asked = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        for _ in range(1500):
            if await value(self.standby, asked, written):
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the standby does not catch up")

    async def routed(self, route: str, kind: str) -> int:
        """A counter, from a report that is made after this call."""
        return (await self._report()).routed.get(route, {}).get(kind, 0)

    async def carried(self) -> int:
        """How many transactions passed in the shuttle."""
        return (await self._report()).pools.done["carried"]

    async def _report(self):
        seen = []

        def newer(counters) -> bool:
            seen.append(counters)
            return any(one is not seen[0] for one in seen)

        await self.it.counted("a report", newer)
        return seen[-1]


async def value(session, statement: str, *given, **more):
    row = await (await session.execute(statement, given or None, **more)).fetchone()
    return row[0] if row else None


async def last(session) -> tuple[str, ...]:
    """wish, route, backend and reason of the last statement."""
    return await (await session.execute("SHOW pgherd.route", prepare=False)).fetchone()


@contextlib.asynccontextmanager
async def pair(lab, way, **options):
    """Both servers, running and filled."""
    server = await lab.primary("a")
    await server.set_names("")
    primary = await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True)
    async with primary:
        await primary.execute(SETUP)
        standby = await lab.replica("b", server)
        to_standby = await psycopg.AsyncConnection.connect(lab.dsn(standby), autocommit=True)
        async with to_standby:
            options = {"route": "auto", "pool": "transaction", **options}
            async with way(server, standby=standby, **options) as it:
                found = Pair(it, primary, to_standby)
                await found.caught_up()
                yield found


async def each_statement_goes_where_it_belongs(them: Pair) -> None:
    """Reads to the replica; writes, doubtful ones and what locks to the primary; with parameters,
    by name and in pipelines too."""
    ann = await them.connect(prepare_threshold=None)
    await value(ann, HERE)
    assert "not known yet" in (await last(ann))[3]
    await them.told_of(ann, "SELECT here() WHERE 1 = 1", "SELECT writes()", "TABLE loud")
    assert await value(ann, HERE) == "replica"
    assert await last(ann) == ("auto", "replica", "b", "a read")
    assert await value(ann, "SELECT writes()") == "primary"
    assert await last(ann) == ("auto", "primary", "a", "writes() is volatile")
    assert await value(ann, "TABLE loud") == "primary"
    assert await value(ann, "INSERT INTO t VALUES (1) RETURNING here()") == "primary"
    assert await value(ann, "SELECT here() FROM t FOR UPDATE") == "primary"
    assert await value(ann, "SELECT here() || nextval('s')") == "primary1"
    assert await value(ann, "SELECT here() WHERE 1 = %s", 1) == "replica"
    for _ in range(3):
        assert await value(ann, "SELECT here() WHERE 2 = %s", 2, prepare=True) == "replica"
        text = "INSERT INTO t VALUES (%s) RETURNING here()"
        assert await value(ann, text, 3, prepare=True) == "primary"
    await ann.close()
    piping = await them.connect()
    async with piping.pipeline():
        mixed = [
            await piping.execute("SELECT here()"),
            await piping.execute("INSERT INTO t VALUES (4) RETURNING here()"),
            await piping.execute("SELECT here()"),
        ]
    assert [(await one.fetchone())[0] for one in mixed] == ["primary"] * 3
    async with piping.pipeline() as line:
        each = []
        for text in (HERE, "INSERT INTO t VALUES (5) RETURNING here()", HERE):
            each.append(await piping.execute(text))
            await line.sync()
    found = [(await one.fetchone())[0] for one in each]
    assert found == ["replica", "primary", "replica"], found
    await piping.close()
    assert await them.routed("replica", "read") > 5
    assert await them.routed("primary", "write") > 5
    assert await them.routed("primary", "doubt") > 1


async def a_transaction_stays_where_it_began(them: Pair) -> None:
    """One that only reads is a replica's to its end, whatever it says; all others the primary's."""
    ann = await them.connect(prepare_threshold=None)
    await them.told_of(ann, HERE, "SELECT writes()")
    await ann.execute("BEGIN READ ONLY")
    assert (await last(ann))[1:] == ("replica", "b", "BEGIN READ ONLY")
    assert await value(ann, HERE) == "replica"
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        await ann.execute("SELECT writes()")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        await ann.execute(HERE)
    await ann.execute("ROLLBACK")
    assert await value(ann, "SELECT writes()") == "primary"
    await ann.execute("BEGIN")
    assert await value(ann, HERE) == "primary"
    await ann.execute("SAVEPOINT x")
    assert await value(ann, HERE) == "primary"
    await ann.execute("COMMIT")
    assert await value(ann, HERE) == "replica"
    await ann.execute("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY")
    assert await value(ann, HERE) == "primary"
    await ann.execute("COMMIT")
    reading = await them.connect()
    await reading.set_autocommit(False)
    await reading.set_read_only(True)
    assert [await value(reading, HERE, prepare=True) for _ in range(3)] == ["replica"] * 3
    await reading.commit()
    await reading.set_read_only(False)
    assert await value(reading, HERE) == "primary"
    await reading.rollback()
    await reading.close()
    together = await ann.execute("BEGIN READ ONLY; SELECT here(); COMMIT")
    together.nextset()
    assert (await together.fetchone())[0] == "primary"
    await ann.execute("CREATE TEMP TABLE own (i int)")
    assert await value(ann, HERE) == "primary"  # its server is kept for it
    await ann.execute("DISCARD ALL")
    await them.told_of(ann, HERE)
    assert await value(ann, HERE) == "replica"
    await ann.close()


async def clients_can_say_where(them: Pair) -> None:
    """Hints and pgherd.route move reads and what is doubtful; no known write goes to a replica.
    What is asked wrongly is refused, with what to write instead; pgherd.trace tells the log."""
    ann = await them.connect(prepare_threshold=None)
    await them.told_of(ann, HERE, "SELECT here() || inet_server_port()")
    doubtful = "SELECT here() WHERE pg_backend_pid() > 0"
    await them.told_of(ann, doubtful, "SELECT here() WHERE 'a' <> '' AND 'a' = 'a'")
    assert await value(ann, "/* pgherd: primary */ SELECT here()") == "primary"
    assert await value(ann, doubtful) == "primary"
    assert await value(ann, f"{doubtful} /* pgherd: replica */") == "replica"
    text = "INSERT INTO t VALUES (1) RETURNING here() /* pgherd: replica */"
    assert await value(ann, text) == "primary"
    await ann.execute("SET pgherd.route = replica")
    assert await value(ann, doubtful) == "replica"
    assert await last(ann) == (
        "replica", "replica", "b",
        "pgherd.route says replica: pg_backend_pid() tells of the server that runs it",
    )  # fmt: skip
    assert await value(ann, "INSERT INTO t VALUES (1) RETURNING here()") == "primary"
    await ann.execute("SET SESSION pgherd.route TO 'primary'", prepare=True)
    assert await value(ann, HERE) == "primary"
    for _ in range(2):  # by the extended protocol, with a name
        row = await (await ann.execute("SHOW pgherd.route", prepare=True)).fetchone()
        assert row == ("primary", "primary", "a", "pgherd.route says primary")
    await ann.execute("BEGIN")
    assert (await last(ann))[0] == "primary"
    await ann.execute("RESET pgherd.route")
    assert ann.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    await ann.execute("COMMIT")
    assert await value(ann, HERE) == "replica"
    refused = {
        "SET pgherd.route = nowhere": ("22023", "auto, primary or replica"),
        "SET pgherd.nothing = 1": ("42704", "pgherd.route"),
        "SHOW pgherd.nothing": ("42704", "pgherd.route"),
        "SET LOCAL pgherd.route = primary": ("0A000", "/* pgherd: primary */"),
        "SET pgherd.min_lsn = '1:0/1'": ("0A000", "session or token"),
    }
    for statement, (code, hint) in refused.items():
        for prepare in (False, True):
            with pytest.raises(psycopg.Error) as caught:
                await ann.execute(statement, prepare=prepare)
            assert caught.value.sqlstate == code, statement
            assert hint in caught.value.diag.message_hint
    assert "statement.routed" not in them.it.log
    await ann.execute("SET pgherd.trace = on")
    await value(ann, "SELECT here() WHERE 'a secret' <> ''")
    await ann.execute("SET pgherd.trace = off")
    await value(ann, "SELECT here() WHERE 'a secret' = 'a secret'")
    lines = [line for line in them.it.log.splitlines() if "statement.routed" in line]
    assert len(lines) == 1, lines
    assert "backend=b" in lines[0]
    assert "secret" not in them.it.log
    await ann.close()


async def what_a_replica_refuses_is_said_once_more(them: Pair) -> None:
    """A function that writes though it is called stable, and a table that the replica does not have
    yet: the client sees the primary's answer alone, and the next one goes there at once."""
    ann = await them.connect(prepare_threshold=None)
    await them.told_of(ann, "SELECT here() || upper('x')", "SELECT lies(0)")
    repeated = await them.routed("replica", "repeated")
    before = await value(them.primary, "SELECT count(*) FROM log")
    assert await value(ann, "SELECT lies(1)") == "primary"
    assert (await last(ann))[3] == "a replica refused it before"
    assert await value(ann, "SELECT lies(%s) || here()", 1) == "primaryprimary"
    assert (await last(ann))[3] == "b refused it (25006)"
    assert await value(ann, "SELECT lies(%s) || upper('x')", 1, prepare=True) == "primaryX"
    assert await value(ann, "SELECT lies(%s) || upper('x')", 1, prepare=True) == "primaryX"
    with pytest.raises(psycopg.errors.DivisionByZero):
        await ann.execute("SELECT 1 / 0")  # an error of any server is not said again
    await them.standby.execute("SELECT pg_wal_replay_pause()")
    try:
        await ann.execute("CREATE TABLE fresh AS SELECT here() AS here")
        await them.told_of(ann, "SELECT upper(here) FROM fresh")
        assert await value(ann, "SELECT here FROM fresh") == "primary"
        assert (await last(ann))[3] == "b refused it (42P01)"
        assert await value(ann, "SELECT here FROM fresh", prepare=True) == "primary"
    finally:
        await them.standby.execute("SELECT pg_wal_replay_resume()")
    await them.caught_up()
    assert await value(ann, "SELECT here FROM fresh", prepare=True) == "primary"
    assert (await last(ann))[2] == "b"
    assert await value(them.primary, "SELECT count(*) FROM log") == before + 4
    assert await them.routed("replica", "failed") > 0
    assert await them.routed("replica", "repeated") > repeated
    await ann.close()


async def a_replica_that_is_lost_is_not_noticed(them: Pair) -> None:
    """Its process ends while it runs a read: the client gets the answer of another server."""
    ann = await them.connect(prepare_threshold=None)
    await them.told_of(ann, "SELECT naps(0)")
    asked = asyncio.create_task(value(ann, "SELECT naps(%s)", 1.5))
    ended = None
    for _ in range(1000):
        ended = await value(
            them.standby,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE 'SELECT naps($1%' AND state = 'active'",
        )
        if ended:
            break
        await asyncio.sleep(0.005)
    assert ended
    assert await asked == "primary"
    assert "no replica can take it" in (await last(ann))[3]
    assert await value(ann, HERE) in ("primary", "replica")
    await them.told_of(ann, HERE)
    assert await value(ann, HERE) == "replica"
    await ann.close()


async def a_change_of_names_counts_at_once(them: Pair) -> None:
    """What this way in changes is asked about anew before it is believed: a view that becomes a
    write, a function that becomes volatile within a transaction."""
    ann = await them.connect(prepare_threshold=None)
    await ann.execute("CREATE VIEW seen AS SELECT here() AS here")
    await ann.execute("CREATE FUNCTION mine() RETURNS text STABLE AS 'SELECT here()' LANGUAGE sql")
    await them.caught_up()
    await them.told_of(ann, "TABLE seen", "SELECT mine()")
    assert await value(ann, "TABLE seen") == "replica"
    assert await value(ann, "SELECT mine()") == "replica"
    await ann.execute("CREATE OR REPLACE VIEW seen AS SELECT writes() AS here")
    assert await value(ann, "TABLE seen") == "primary"
    assert "not known yet" in (await last(ann))[3]
    await them.told_of(ann, "TABLE seen", "SELECT mine()")
    assert (await last(ann))[1] == "replica"
    await ann.execute("BEGIN")
    await ann.execute("ALTER FUNCTION mine() VOLATILE")
    await ann.execute("COMMIT")
    assert await value(ann, "SELECT mine()") == "primary"
    await them.told_of(ann, "SELECT mine()", "TABLE seen")
    assert (await last(ann))[3] == "seen: writes() is volatile"
    assert {one.database for one in them.it.questions} == {"postgres"}
    await ann.close()


async def reads_ride_as_long_as_they_are_reads(them: Pair) -> None:
    """What is known to be a read passes in the shuttle, prepared too, and is counted; a replica's
    refusal there is the primary's answer, and a write in between has its place."""
    ann = await them.connect(prepare_threshold=None)
    makes = "CREATE OR REPLACE FUNCTION rides() RETURNS text STABLE AS '{}' LANGUAGE sql"
    await ann.execute(makes.format("SELECT here()"))
    await them.caught_up()
    await them.told_of(ann, "SELECT rides() || '0'", "SELECT rides() || '0'::text")
    carried, reads = await them.carried(), await them.routed("replica", "read")
    for number in range(RIDES):
        assert await value(ann, f"SELECT rides() || '{number}'") == f"replica{number}"
        assert await value(ann, "SELECT rides() || %s::text", number, prepare=True)
    assert (await last(ann))[:3] == ("auto", "replica", "b")
    assert await them.routed("replica", "read") == reads + 2 * RIDES
    assert await them.carried() > carried + RIDES, "most of them rode"
    await ann.execute("INSERT INTO log SELECT")
    assert (await last(ann))[1] == "primary"
    for _ in range(5):
        assert await value(ann, "SELECT rides() || ''") == "replica"
    before = await value(them.primary, "SELECT count(*) FROM log")
    await them.primary.execute(makes.format("SELECT lies(1)"))
    await them.caught_up()
    repeated = await them.routed("replica", "repeated")
    assert await value(ann, "SELECT rides() || ''") == "primary"
    assert (await last(ann))[3] == "b refused it (25006)"
    assert await value(ann, "SELECT rides() || ''") == "primary"
    assert (await last(ann))[3] == "a replica refused it before"
    assert await value(them.primary, "SELECT count(*) FROM log") == before + 2
    assert await them.routed("replica", "repeated") == repeated + 1
    await ann.close()


STORIES = (
    each_statement_goes_where_it_belongs,
    a_transaction_stays_where_it_began,
    clients_can_say_where,
    what_a_replica_refuses_is_said_once_more,
    a_replica_that_is_lost_is_not_noticed,
    a_change_of_names_counts_at_once,
    reads_ride_as_long_as_they_are_reads,
)
RIDES = 30


def test_statements_find_their_servers(lab, play, way):
    """All of the above, one after the other on the same servers, each in a session of its own."""

    async def story():
        async with pair(lab, way) as them:
            for one in STORIES:
                await one(them)

    play(story())
