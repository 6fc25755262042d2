"""The tour by psycopg 3: `tour_psycopg.py WAYS`, WAYS as `test_clients` says; prints what it saw.

Besides what every driver does: binary results, a pipeline, channel binding inside TLS.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from typing import Any

import psycopg

BIG = "SELECT i, md5(i::text), i / 7.0, now() IS NULL FROM generate_series(1, 20000) i"
COPY = "COPY (SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 20000) i) TO STDOUT"


def connect(way: dict[str, Any], password: str | None = None) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=way["host"],
        port=way["port"],
        user=way["user"],
        password=password or way["password"],
        dbname="postgres",
        sslmode="require" if way["tls"] else "disable",
        channel_binding="require" if way["tls"] else "disable",
        connect_timeout=60,
        autocommit=True,
    )


def digest(rows: Any) -> str:
    return hashlib.md5(repr(rows).encode()).hexdigest()


def tour(way: dict[str, Any]) -> None:
    def saw(step: str, what: object) -> None:
        print(way["name"], step, what, sep="\t")

    try:
        connect(way, "wrong").close()
    except psycopg.OperationalError as error:
        saw("wrong password", str(error).rpartition("FATAL:")[2].strip().splitlines()[0])
    with connect(way) as one:
        saw("version", one.info.parameter_status("server_version"))
        saw("big", digest(one.execute(BIG).fetchall()))
        saw("binary", digest(one.cursor(binary=True).execute(BIG).fetchall()))
        many = ", ".join(["%s"] * 2000)
        found = one.execute(f"SELECT sum(v), count(*) FROM unnest(ARRAY[{many}]) v", range(2000))  # type: ignore[arg-type] # a range is a sequence
        saw("parameters", found.fetchone())
        try:
            one.execute("SELECT 1 / (3 - i) FROM generate_series(1, 9) i")
        except psycopg.Error as error:
            saw("error", (error.sqlstate, str(error)))
        with one.transaction(), one.cursor(name="held") as cursor:
            cursor.execute("SELECT * FROM generate_series(1, 5000)")
            saw("cursor", (cursor.fetchmany(7), digest(cursor.fetchall())))
        with one.pipeline():
            cursors = [one.execute("SELECT %s::int, repeat('x', 3000)", [i]) for i in range(200)]
        saw("pipeline", digest([cursor.fetchall() for cursor in cursors]))
        with one.cursor() as cursor, cursor.copy(COPY) as copy:
            saw("copy out", hashlib.md5(b"".join(copy)).hexdigest())
        timer = threading.Timer(0.5, one.cancel_safe)
        timer.start()
        try:
            one.execute("SELECT pg_sleep(60)")
        except psycopg.errors.QueryCanceled as error:
            saw("cancel", (error.sqlstate, one.execute("SELECT 1").fetchone()))
        timer.join()
        if way["writes"]:
            writes(one, saw)


def writes(one: psycopg.Connection[Any], saw: Any) -> None:
    one.execute("CREATE TEMP TABLE filled (id int, note text)")
    with one.cursor() as cursor, cursor.copy("COPY filled FROM STDIN") as copy:
        for number in range(3000):
            copy.write_row((number, "ünï" * 300))
    saw("copy in", one.execute("SELECT count(*), md5(string_agg(note, '')) FROM filled").fetchone())
    with one.transaction():
        oid = one.execute("SELECT lo_from_bytea(0, %b)", [bytes(range(256)) * 2000]).fetchone()
        content = one.execute("SELECT lo_get(%s)", oid).fetchone()
        saw("large object", digest(content))
        one.execute("SELECT lo_unlink(%s)", oid)
    one.execute("LISTEN tour")
    one.execute("NOTIFY tour, 'of the day'")
    saw("listen", [each.payload for each in one.notifies(timeout=30, stop_after=1)])


for each in json.loads(sys.argv[1]):
    tour(each)
