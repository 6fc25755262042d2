"""What the protocol allows between a client and a server that it only borrows: as with its own.

Stories of raw messages are told to a server directly, and then to a pool: by two clients in turns
that call different statements by the same names, so that each finds the other's on its server; and
by one whose servers are taken away between its words, so that it finds others with nothing on them.
"""

from __future__ import annotations

import asyncio
import importlib.util
import struct

import psycopg
import pytest

from pgherd.relay.messages import Engine
from pgherd.wire import scram
from pgherd.wire.entry import ServerEntry
from pgherd.wire.query import SYNC, simple

FLUSH = b"H\x00\x00\x00\x04"
DONE = b"c\x00\x00\x00\x04"
DEADLINE_S = 20.0
SILENT = b"KG"
INT4PL = 177


def message(kind: str, body: bytes) -> bytes:
    return kind.encode() + (4 + len(body)).to_bytes(4, "big") + body


def parse(name: str, text: str, *types: int) -> bytes:
    packed = len(types).to_bytes(2, "big") + b"".join(one.to_bytes(4, "big") for one in types)
    return message("P", f"{name}\0{text}\0".encode() + packed)


def bind(name: str, *values: str, portal: str = "") -> bytes:
    body = f"{portal}\0{name}\0".encode() + bytes(2) + len(values).to_bytes(2, "big")
    body += b"".join(len(one).to_bytes(4, "big") + one.encode() for one in values) + bytes(2)
    return message("B", body)


def execute(portal: str = "", rows: int = 0) -> bytes:
    return message("E", portal.encode() + b"\0" + rows.to_bytes(4, "big"))


def describe(name: str, kind: str = "S") -> bytes:
    return message("D", kind.encode() + name.encode() + b"\0")


def close(name: str, kind: str = "S") -> bytes:
    return message("C", kind.encode() + name.encode() + b"\0")


def data(text: str) -> bytes:
    return message("d", text.encode())


def run(name: str, *values: str) -> bytes:
    return bind(name, *values) + execute() + SYNC


def call(number: int, *values: int) -> bytes:
    packed = b"".join(struct.pack("!ii", 4, value) for value in values)
    body = struct.pack("!ihhh", number, 1, 1, len(values)) + packed + struct.pack("!h", 1)
    return message("F", body)


def story(*words: bytes | tuple[bytes, int]) -> list[tuple[bytes, int]]:
    """What is said, and how many messages are awaited: 0 = to the last ReadyForQuery."""
    return [one if isinstance(one, tuple) else (one, 0) for one in words]


COPY_IN = "COPY pg_temp_t FROM STDIN"

STORIES = {
    "named": story(
        parse("s", "SELECT 'ME', $1::int", 23) + SYNC,
        run("s", "1"),
        describe("s") + SYNC,
        bind("s", "2") + describe("", "P") + execute() + SYNC,
        close("s") + SYNC,
        run("s", "3"),
        parse("s", "SELECT 'ME again'") + SYNC,
        run("s"),
    ),
    "unnamed": story(
        parse("", "SELECT 'ME', $1::text") + describe("") + SYNC,
        run("", "one"),
        run("", "two"),
        describe("") + SYNC,
        simple("SELECT 'ME, simple'"),
        run("", "three"),
        close("") + SYNC,
        run("", "four"),
    ),
    "twice": story(
        parse("s", "SELECT 'ME'") + SYNC,
        parse("s", "SELECT 'ME, other'") + SYNC,
        run("s"),
        parse("s", "SELECT 'ME, third'") + run("s"),
        run("s"),
        close("s") + parse("s", "SELECT 'ME, fourth'") + run("s"),
        run("s"),
    ),
    "errors": story(
        parse("s", "SELECT 'ME' FROM nowhere") + SYNC,
        run("s"),
        parse("s", "SELECT 'ME', 1 / $1::int")
        + bind("s", "0")
        + execute()
        + parse("t", "SELECT 'ME, skipped'")
        + close("s")
        + SYNC,
        run("t"),
        run("s", "1"),
        parse("t", "SELECT 'ME, not skipped'") + bind("t") + execute() + SYNC,
        run("t"),
        parse("u", "SELECT 'ME'") + bind("u", "too many") + execute() + SYNC + run("t"),
        run("u"),
    ),
    "transactions": story(
        simple("BEGIN"),
        parse("r", "ROLLBACK") + parse("s", "SELECT 'ME', $1::int") + SYNC,
        run("s", "1"),
        simple("SELECT 1 / 0"),
        run("s", "2"),
        parse("t", "SELECT 'ME'") + SYNC,
        simple("DEALLOCATE s"),
        run("r"),
        run("s", "3"),
        run("t"),
        simple("BEGIN; SELECT 'ME'; SAVEPOINT a"),
        simple("SELECT nonsense"),
        simple("ROLLBACK TO a; SELECT 'ME, back'"),
        simple("COMMIT"),
    ),
    "flush": story(
        (parse("", "SELECT 'ME', i FROM generate_series(1, 3) i") + describe("") + FLUSH, 3),
        (bind("") + execute("", 2) + FLUSH, 4),
        (execute("", 2) + FLUSH, 2),
        SYNC,
        (FLUSH + parse("s", "SELECT 'ME'") + FLUSH, 1),
        run("s"),
        SYNC + SYNC,
    ),
    "portals": story(
        simple("BEGIN"),
        parse("s", "SELECT 'ME', generate_series(1, 5)") + bind("s", portal="p") + SYNC,
        execute("p", 2) + SYNC,
        describe("p", "P") + execute("p", 2) + SYNC,
        execute("p") + close("p", "P") + SYNC,
        execute("p") + SYNC,
        simple("COMMIT"),
    ),
    "copying": story(
        simple("CREATE TEMP TABLE pg_temp_t (who text, i int)"),
        (simple(COPY_IN), 1),
        data("ME\t1\nME\t") + data("2\n") + DONE,
        (parse("c", COPY_IN) + bind("c") + execute() + SYNC, 3),
        data("ME\t3\n") + DONE + SYNC,
        (parse("", COPY_IN) + bind("") + execute() + SYNC, 3),
        data("ME\t4\n") + message("f", b"given up\0") + SYNC,
        simple("COPY pg_temp_t TO STDOUT"),
        parse("", "COPY pg_temp_t TO STDOUT")
        + bind("")
        + execute()
        + parse("s", "SELECT count(*) FROM pg_temp_t")
        + run("s"),
        simple("DISCARD ALL"),
        run("s"),
        simple("SELECT * FROM pg_temp_t"),
    ),
    "deallocating": story(
        parse("S one", "SELECT 'ME'") + parse("two", "SELECT 'ME, too'") + SYNC,
        simple('DEALLOCATE "S one"'),
        run("S one"),
        run("two"),
        parse("", "DEALLOCATE two") + bind("") + execute() + SYNC,
        run("two"),
        simple("DEALLOCATE two"),
        parse("two", "SELECT 'ME, anew'") + SYNC,
        simple("DEALLOCATE ALL"),
        run("two"),
        parse("two", "SELECT 'ME, once more'") + run("two"),
        simple("DISCARD ALL"),
        run("two"),
        parse("two", "SELECT 'ME, at last'") + run("two"),
    ),
    "settings": story(
        parse("s", "SELECT 'ME', '2026-01-02 03:04+00'::timestamptz, current_setting('DateStyle')")
        + SYNC,
        simple("SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'"),
        run("s"),
        parse("t", "SELECT 'ME', '1.2.2026'::date + 1") + run("t"),
        simple("BEGIN; SET LOCAL TimeZone = 'America/Lima'; SHOW TimeZone"),
        simple("ROLLBACK"),
        simple("SHOW TimeZone"),
        simple("RESET TimeZone"),
        simple("SHOW TimeZone"),
        run("t"),
        simple("SET application_name = 'ME'; SHOW application_name"),
        simple("SHOW application_name"),
        simple("SET work_mem = '77kB'"),
        simple("SHOW work_mem"),
        simple("RESET ALL; SHOW work_mem"),
        simple("DISCARD ALL"),
        simple("SHOW DateStyle"),
    ),
    "kept": story(
        simple("CREATE TEMP TABLE mine AS SELECT 'ME' AS who"),
        simple("SELECT who FROM mine"),
        simple("PREPARE sql AS SELECT 'ME, prepared'"),
        simple("EXECUTE sql"),
        run("sql"),
        simple("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 'ME'; COMMIT"),
        simple("FETCH c"),
        call(INT4PL, 2, 3),
        simple("DISCARD ALL"),
        simple("SELECT who FROM mine"),
    ),
    "calls": story(call(INT4PL, 20, 22), call(INT4PL, 1), simple(""), simple("; ;"), SYNC),
}


class Raw:
    """A client that says what it is told to."""

    def __init__(self, dsn: dict[str, object], stored: str) -> None:
        self._dsn = dsn
        self._stored = stored
        self._buffer = b""

    async def connect(self) -> Raw:
        host, port = str(self._dsn["host"]), int(str(self._dsn["port"]))
        self._reader, self._writer = await asyncio.open_connection(host, port)
        known = scram.parse(self._stored)
        assert known is not None
        keys = scram.keys_of("right", salt=known.salt, iterations=known.iterations)
        parameters = (("user", "ann"), ("database", "postgres"), ("TimeZone", "UTC"))
        entry = ServerEntry(parameters, keys, nonce="aNonceThatIsLongEnough")
        self._writer.write(entry.start())
        while not entry.is_over:
            self._writer.write(entry.feed(await self._reader.read(65536)))
        assert entry.error is None, entry.error
        return self

    async def say(self, words: bytes, count: int) -> list[object]:
        """What comes back."""
        self._writer.write(words)
        due = count or ready_count(words)
        seen: list[object] = []
        async with asyncio.timeout(DEADLINE_S):
            while due:
                kind, body = await self._message()
                seen.append((kind, *told(kind, body)))
                due -= bool(count) or kind == "Z"
        return seen

    async def _message(self) -> tuple[str, bytes]:
        head = await self._reader.readexactly(5)
        body = await self._reader.readexactly(int.from_bytes(head[1:], "big") - 4)
        return head[:1].decode(), body

    def leave(self) -> None:
        self._writer.close()


def ready_count(words: bytes) -> int:
    """How many ReadyForQuery answer this; COPY in a batch takes the Sync before it."""
    kinds = []
    while words:
        kinds.append(words[:1])
        words = words[1 + int.from_bytes(words[1:5], "big") :]
    if kinds[-1] == b"c":
        return 1
    return sum(kind in b"QSF" for kind in kinds)


def told(kind: str, body: bytes) -> tuple[object, ...]:
    """What of a message has to be the same."""
    match kind:
        case "E" | "N":
            fields = {part[:1]: part[1:] for part in body.split(b"\0") if part}
            return (fields[b"C"], fields[b"V"])
        case "T":
            return (body[:2],)
        case _:
            return (body,)


class Teller:
    """Tells a story in somebody's name."""

    def __init__(self, raw: Raw, name: str) -> None:
        self._raw = raw
        self._name = name.encode()
        self.seen: list[object] = []

    async def step(self, words: bytes, count: int) -> None:
        """Say one thing. All names have two letters: no length changes."""
        answer = await self._raw.say(words.replace(b"ME", self._name), count)
        self.seen += [self._as_me(one) for one in answer]

    def _as_me(self, one: object) -> object:
        assert isinstance(one, tuple)
        return tuple(
            part.replace(self._name, b"ME") if isinstance(part, bytes) else part for part in one
        )


async def prepared(lab) -> tuple[object, str]:
    server = await lab.primary("a")
    await server.set_names("")
    async with await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True) as agent:
        await agent.execute("CREATE ROLE ann LOGIN PASSWORD 'right'")
        row = await agent.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'ann'")
        found = await row.fetchone()
        assert found is not None
    return server, found[0]


async def holder(raw: Raw, *, holds: bool) -> None:
    """Take a server away, or give it back."""
    await raw.say(simple("BEGIN" if holds else "COMMIT"), 0)


def is_shuttle(engine: Engine) -> bool:
    """Whether something may pass there."""
    is_built = importlib.util.find_spec("pgherd.relay._shuttle") is not None
    return is_built and engine is not Engine.UVLOOP


@pytest.mark.parametrize("engine", [Engine.AUTO, Engine.UVLOOP])
def test_stories_end_as_with_a_server_of_ones_own(lab, play, way, engine):
    """In the shuttle, as far as it goes, and in Python."""

    def carried(counters) -> bool:
        pools = counters.pools
        return pools is not None and bool(pools.done["carried"]) == is_shuttle(engine)

    if engine is Engine.UVLOOP and lab.binaries.major < 18:
        pytest.skip("one PostgreSQL is enough for the twin")

    async def tell_all():
        server, stored = await prepared(lab)
        async with way(server, pool="transaction", engine=engine) as it:

            async def client(*, direct: bool = False) -> Raw:
                port = server.port if direct else it.port
                return await Raw({"host": "127.0.0.1", "port": port}, stored).connect()

            away = await client()
            for name, words in STORIES.items():
                raws = [await client(direct=True), *[await client() for _ in range(3)]]
                own, one, other, moved = tellers = [
                    Teller(raw, who)
                    for raw, who in zip(raws, ("ME", "AA", "BB", "CC"), strict=True)
                ]
                for step, (said, count) in enumerate(words):
                    for teller in (own, one, other):
                        await teller.step(said, count)
                    await holder(away, holds=step % 2 == 0)
                    await moved.step(said, count)
                if len(words) % 2:
                    await holder(away, holds=False)
                for teller in tellers[1:]:
                    assert teller.seen == own.seen, name
                for raw in raws:
                    raw.leave()
            await it.counted("where they passed is told", carried)
            away.leave()

    play(tell_all())
