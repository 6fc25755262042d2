"""The tour by asyncpg, which speaks the protocol itself: `tour_asyncpg.py WAYS`."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from io import BytesIO
from typing import Any

import asyncpg

BIG = "SELECT i, md5(i::text), i / 7.0, now() IS NULL FROM generate_series(1, 20000) i"
COPY = "SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 20000) i"


async def connect(way: dict[str, Any], password: str | None = None) -> Any:
    return await asyncpg.connect(
        host=way["host"],
        port=way["port"],
        user=way["user"],
        password=password or way["password"],
        database="postgres",
        ssl="require" if way["tls"] else "disable",
        timeout=60,
    )


def digest(rows: Any) -> str:
    return hashlib.md5(repr(rows).encode()).hexdigest()


async def tour(way: dict[str, Any]) -> None:
    def saw(step: str, what: object) -> None:
        print(way["name"], step, what, sep="\t")

    try:
        await (await connect(way, "wrong")).close()
    except asyncpg.PostgresError as error:
        saw("wrong password", (error.sqlstate, str(error).splitlines()[0]))
    one = await connect(way)
    saw("version", one.get_server_version())
    saw("big", digest([tuple(row) for row in await one.fetch(BIG)]))
    many = ", ".join(f"${number}::int" for number in range(1, 2001))
    saw(
        "parameters",
        tuple(await one.fetchrow(f"SELECT sum(v) FROM unnest(ARRAY[{many}]) v", *range(2000))),
    )
    try:
        await one.fetch("SELECT 1 / (3 - i) FROM generate_series(1, 9) i")
    except asyncpg.PostgresError as error:
        saw("error", (error.sqlstate, str(error)))
    async with one.transaction():
        cursor = one.cursor("SELECT i FROM generate_series(1, 5000) i", prefetch=70)
        saw("cursor", digest([row["i"] async for row in cursor]))
    out = BytesIO()
    await one.copy_from_query(COPY, output=out)
    saw("copy out", hashlib.md5(out.getvalue()).hexdigest())
    try:
        await one.fetchval("SELECT pg_sleep(60)", timeout=0.5)
    except TimeoutError:
        saw("cancel", await one.fetchval("SELECT 1", timeout=60))
    if way["writes"]:
        await writes(one, saw)
    await one.close()


async def writes(one: Any, saw: Any) -> None:
    await one.execute("CREATE TEMP TABLE filled (id int, note text)")
    rows = [(number, "ünï" * 300) for number in range(3000)]
    saw("copy in", await one.copy_records_to_table("filled", records=rows))
    await one.executemany("INSERT INTO filled VALUES ($1, $2)", rows[:500])
    found = await one.fetchrow("SELECT count(*), md5(string_agg(note, '')) FROM filled")
    saw("pipeline", tuple(found))
    async with one.transaction():
        oid = await one.fetchval("SELECT lo_from_bytea(0, $1)", bytes(range(256)) * 2000)
        saw("large object", digest(await one.fetchval("SELECT lo_get($1)", oid)))
        await one.execute(f"SELECT lo_unlink({oid})")
    heard: asyncio.Queue[str] = asyncio.Queue()
    await one.add_listener("tour", lambda *said: heard.put_nowait(said[3]))
    await one.execute("NOTIFY tour, 'of the day'")
    saw("listen", await asyncio.wait_for(heard.get(), 30))


async def main() -> None:
    for each in json.loads(sys.argv[1]):
        await tour(each)


asyncio.run(main())
