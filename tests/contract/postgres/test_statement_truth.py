"""Where statements belong, beside what a real primary and a real standby do with them.

`truth.txt` says of each statement whether a replica may run it; here its word is held against the
classifier with what it learnt from the primary, and against the standby itself.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg

from pgherd.model.ids import Instant
from pgherd.postgres.meanings import read_meanings
from pgherd.postgres.session import Login
from pgherd.relay.parsing import parse
from pgherd.route.classifier import Classifier
from pgherd.route.statement import Kind, Verdict

DATA = Path(__file__).parents[2] / "data" / "route"
REFUSED = {"25006", "0A000"}
"""What a standby says of what it does not do."""

PLACES_MIN = {"replica": 100, "refused": 100, "primary": 80}


def truth(major: int) -> list[tuple[str, str, str]]:
    """Section, statement, and what the reason says."""
    found, section, statement = [], "", ""
    for line in (DATA / "truth.txt").read_text().splitlines():
        if line.startswith("== "):
            section = line[3:]
        elif section and line and not line.startswith("#"):
            since, _, rest = line.partition("] ") if line.startswith("[") else ("", "", line)
            statement += rest if not statement else "\n" + rest
            if section != "replica" and " ## " not in rest:
                continue  # it goes on in the next line
            text, _, why = statement.partition(" ## ")
            statement = ""
            if not since or int(since[1:]) <= major:
                found.append((section, text, why))
    return found


def login(server) -> Login:
    return Login(
        socket_dir=str(server.socket_dir),
        port=server.port,
        user=server.settings.superuser,
        database=server.settings.database,
    )


async def judged(classifier: Classifier, server, statement: str, database="postgres") -> Verdict:
    """The verdict, after all questions that it raises have been answered."""
    now = Instant(1_000_000)
    for _ in range(12):
        verdict = classifier.judge(classifier.look(statement.encode()), database, now)
        vocabulary = classifier.vocabulary(database)
        names = vocabulary.question(now)
        if names is None:
            return verdict
        vocabulary.told(await read_meanings(login(server), database, names), now)
    raise AssertionError(f"questions without an end: {statement}")


async def tried(session: psycopg.AsyncConnection, statement: str) -> str:
    """The SQLSTATE of a statement, "" if it succeeds; nothing of it stays."""
    try:
        async with session.cursor() as cursor:
            if statement.startswith("COPY"):
                async with cursor.copy(statement) as copy:
                    async for _ in copy:
                        pass
            else:
                await cursor.execute(statement.encode(), prepare=False)
    except psycopg.Error as error:
        return error.sqlstate or "?"
    finally:
        if session.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            await session.rollback()
    return ""


async def as_ann(lab, server) -> psycopg.AsyncConnection:
    session = await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True)
    await session.execute("SET ROLE ann")
    return session


async def catches_up(primary: psycopg.AsyncConnection, session: psycopg.AsyncConnection) -> None:
    """Wait until the standby has replayed all that the primary has written."""
    row = await (await primary.execute("SELECT pg_current_wal_flush_lsn()")).fetchone()
    for _ in range(1500):
        seen = await session.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", row)
        if (await seen.fetchone())[0]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the standby does not catch up")


def test_no_statement_goes_to_a_replica_that_does_not_belong_there(lab, play):
    """Every statement of the table: the classifier says what the table says, with its reason, and
    a standby runs those that are for replicas and refuses those that it is said to refuse.
    """

    async def story():
        server = await lab.primary("a")
        await server.set_names("")
        async with await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True) as it:
            for paragraph in (DATA / "database.sql").read_text().split("\n\n"):
                await it.execute(paragraph.encode())
            standby = await lab.replica("b", server)
            session, own = await as_ann(lab, standby), await as_ann(lab, server)
            await catches_up(it, session)
        classifier = Classifier(parse, b"secret")
        counts = dict.fromkeys(PLACES_MIN, 0)
        wrong = []
        for section, statement, why in truth(server.binaries.major):
            counts[section] += 1
            verdict = await judged(classifier, server, statement)
            is_read = verdict.kind is Kind.READ
            code = "" if section == "primary" else await tried(session, statement)
            if section == "replica" and code and code == await tried(own, statement):
                counts["not built in"] = counts.get("not built in", 0) + 1
                code = ""  # PostgreSQL without libxml
            if is_read != (section == "replica") or why not in verdict.why:
                wrong.append((statement, verdict))
            elif (section == "refused") != (code in REFUSED):
                wrong.append((statement, f"the standby says {code or 'yes'}"))
        await session.close()
        await own.close()
        assert counts.pop("not built in", 0) <= 3
        assert wrong == [], "\n".join(map(str, wrong))
        assert all(counts[section] >= least for section, least in PLACES_MIN.items()), counts

    play(story())


HIDDEN = {
    "cast": """
        CREATE FUNCTION loud(text) RETURNS point LANGUAGE sql AS 'SELECT point(random(), 0)';
        CREATE CAST (text AS point) WITH FUNCTION loud(text) AS IMPLICIT""",
    "domain": "CREATE DOMAIN loud AS int CHECK (value > random())",
    "check of": "CREATE DOMAIN marked AS text CHECK (value < txid_current()::text)",
    "operator =": """
        CREATE FUNCTION same(point, point) RETURNS bool LANGUAGE sql AS 'SELECT random() < 2';
        CREATE OPERATOR = (LEFTARG = point, RIGHTARG = point, FUNCTION = same)""",
    "operator class": """
        CREATE TYPE pair AS (a int, b int);
        CREATE FUNCTION sorts(pair, pair) RETURNS int LANGUAGE sql AS 'SELECT 0';
        CREATE FUNCTION less(pair, pair) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT true';
        CREATE OPERATOR <<< (LEFTARG = pair, RIGHTARG = pair, FUNCTION = less);
        CREATE OPERATOR CLASS pairs FOR TYPE pair USING btree AS
          OPERATOR 1 <<<, FUNCTION 1 sorts(pair, pair)""",
}
"""What a statement runs without naming it."""


def test_what_runs_unnamed_makes_its_database_doubtful(lab, play):
    """A volatile function behind a cast, a domain's check, a comparison or an operator class: no
    statement of that database is a read any more, those of others are; without it they are again.
    """

    async def story():
        server = await lab.primary("a")
        await server.set_names("")
        admin = await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True)
        for word, commands in HIDDEN.items():
            async with admin.transaction(force_rollback=False):
                await admin.execute("CREATE SCHEMA hiding")
                await admin.execute("SET LOCAL search_path = hiding, public")
                await admin.execute(commands.encode())
            verdict = await judged(Classifier(parse, b"s"), server, "SELECT upper('a')")
            assert verdict.kind is Kind.DOUBT, word
            assert word in verdict.why, verdict
            assert (
                await judged(Classifier(parse, b"s"), server, "SELECT lower('a')", "template1")
            ).kind is Kind.READ
            await admin.execute("DROP SCHEMA hiding CASCADE")
            verdict = await judged(Classifier(parse, b"s"), server, "SELECT upper('a')")
            assert verdict.kind is Kind.READ, verdict
        await admin.close()

    play(story())


def test_what_a_name_means_is_seen_to_change(lab, play):
    """A view, a function and a policy that become dangerous after they were learnt count from when
    the vocabulary is told to forget, and a name that is gone is no read any more.
    """

    async def story():
        server = await lab.primary("a")
        await server.set_names("")
        admin = await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True)
        await admin.execute("CREATE FUNCTION f() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1'")
        await admin.execute("CREATE VIEW v AS SELECT 1 AS r")
        classifier = Classifier(parse, b"s")
        changes = {
            "SELECT f()": "ALTER FUNCTION f() VOLATILE",
            "SELECT * FROM v": "CREATE OR REPLACE VIEW v AS SELECT nextval('s')::int AS r",
        }
        await admin.execute("CREATE SEQUENCE s")
        for statement, change in changes.items():
            assert (await judged(classifier, server, statement)).kind is Kind.READ
            await admin.execute(change.encode())
            assert (await judged(classifier, server, statement)).kind is Kind.READ
            classifier.vocabulary("postgres").forget()
            assert (await judged(classifier, server, statement)).kind is not Kind.READ
        await admin.execute("DROP VIEW v")
        classifier.vocabulary("postgres").forget()
        assert "no relation" in (await judged(classifier, server, "SELECT * FROM v")).why
        await admin.close()

    play(story())
