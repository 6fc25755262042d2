"""The tour by Django's ORM on psycopg 3: `tour_django.py WAYS`; one that is a pool has `shares`.

Every way goes twice, with parameters bound by the client (Django's default) and by the server. As
Django's documentation has it for pools by transaction, server-side cursors are off there: somebody
who has read half of a query must keep no server, though the pool has only one.
Nor may the time zone, which Django sets by set_config() in each of its connections.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from typing import Any

import django
from django.conf import settings
from django.core import signals
from django.db import DataError, IntegrityError, OperationalError, connections, models, transaction

WAYS = json.loads(sys.argv[1])


def database(way: dict[str, Any], *, by_server: bool, password: str = "") -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": way["user"],
        "PASSWORD": password or way["password"],
        "HOST": way["host"],
        "PORT": str(way["port"]),
        "OPTIONS": {
            "connect_timeout": 60,
            "sslmode": "require" if way["tls"] else "disable",
            "server_side_binding": by_server,
        },
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        "DISABLE_SERVER_SIDE_CURSORS": way.get("shares", False),
    }


DATABASES: dict[str, dict[str, Any]] = {"default": {}}
for number, each in enumerate(WAYS):
    DATABASES[f"wrong{number}"] = database(each, by_server=False, password="wrong")
    for mode in (False, True):
        DATABASES[f"way{number}{mode}"] = database(each, by_server=mode)
settings.configure(DATABASES=DATABASES, USE_TZ=True, TIME_ZONE="Asia/Tokyo")
django.setup()


class Kept(models.Model):
    """What the tour writes."""

    note = models.TextField(unique=True)
    data = models.BinaryField()
    more = models.JSONField(default=dict)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "tour"
        db_table = "tour_django"


def digest(rows: Any) -> str:
    return hashlib.md5(repr(rows).encode()).hexdigest()


def tour(number: int, way: dict[str, Any]) -> None:
    def saw(step: str, what: object) -> None:
        print(way["name"], step, what, sep="\t")

    try:
        connections[f"wrong{number}"].ensure_connection()
    except OperationalError as error:
        saw("wrong password", str(error).rpartition("FATAL:")[2].strip().splitlines()[0])
    aliases = [f"way{number}{mode}" for mode in (False, True)]
    for alias in aliases:
        reads(alias, saw)
    for alias in aliases if way["writes"] else ():
        writes(alias, saw)
    for alias in aliases:
        connections[alias].close()


def reads(alias: str, saw: Any) -> None:
    one = connections[alias]
    saw("version", one.pg_version)
    with one.cursor() as cursor:
        cursor.execute("SELECT i, md5(i::text), now() FROM generate_series(1, 20000) i")
        saw("big", digest([row[:2] for row in cursor.fetchall()]))
        many = ", ".join(["%s::int"] * 2000)
        cursor.execute(f"SELECT sum(v) FROM unnest(ARRAY[{many}]) v", list(range(2000)))
        saw("parameters", cursor.fetchone())
        cursor.execute("SHOW TimeZone")
        saw("zone", cursor.fetchone())
        try:
            cursor.execute("SELECT 1 / (3 - i) FROM generate_series(1, 9) i")
        except DataError as error:
            saw("error", (error.__cause__.sqlstate, str(error)))  # type: ignore[union-attr] # psycopg's
    before = one.connection
    signals.request_finished.send(sender=None)
    signals.request_started.send(sender=None)
    with one.cursor() as cursor:
        cursor.execute("SELECT 1")
    saw("kept between requests", one.connection is before)


def writes(alias: str, saw: Any) -> None:
    one, rows = connections[alias], Kept.objects.using(alias)
    with one.schema_editor() as editor:
        editor.create_model(Kept)
    try:
        rows.bulk_create(Kept(note=f"ünï {i}", data=bytes([i % 256]) * 100) for i in range(500))
        rows.filter(note="ünï 7").update(more={"a": [1, None, "ö"]})
        saw("json", rows.get(more__a__0=1).note)
        try:
            with transaction.atomic(using=alias):
                rows.create(note="gone", data=b"")
                with transaction.atomic(using=alias):
                    rows.create(note="ünï 1", data=b"")
        except IntegrityError as error:
            saw("unique", (error.__cause__.sqlstate, rows.count()))  # type: ignore[union-attr] # psycopg's
        with transaction.atomic(using=alias):
            locked = rows.select_for_update().get(note="ünï 3")
            locked.note = "changed"
            locked.save(using=alias)
            transaction.set_rollback(True, using=alias)
        saw("rollback", rows.filter(note="changed").exists())
        read = iter(rows.order_by("id").iterator(chunk_size=50))
        first = [next(read).note for _ in range(10)]
        saw("beside half a query", beside(alias))
        saw("iterator", digest(first + [row.note for row in read]))
    finally:
        with one.schema_editor() as editor:
            editor.delete_model(Kept)


def beside(alias: str) -> int:
    """What another thread counts meanwhile, by a connection of its own."""
    found: list[int] = []

    def count() -> None:
        try:
            found.append(Kept.objects.using(alias).count())
        finally:
            connections[alias].close()

    thread = threading.Thread(target=count)
    thread.start()
    thread.join(60)
    return found[0]


for number, each in enumerate(WAYS):
    tour(number, each)
