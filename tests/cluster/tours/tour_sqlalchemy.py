"""The tour by SQLAlchemy with its pool, on psycopg 3: `tour_sqlalchemy.py WAYS`."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Kept(Base):
    __tablename__ = "tour_kept"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str]
    data: Mapped[bytes]


def digest(rows: Any) -> str:
    return hashlib.md5(repr(rows).encode()).hexdigest()


def engine_of(way: dict[str, Any], password: str) -> sa.Engine:
    mode = "require" if way["tls"] else "disable"
    url = sa.URL.create(
        "postgresql+psycopg", way["user"], password, way["host"], way["port"], "postgres"
    )
    more = {"sslmode": mode, "connect_timeout": 60}
    return sa.create_engine(url, pool_size=3, pool_pre_ping=True, connect_args=more)


def tour(way: dict[str, Any]) -> None:
    def saw(step: str, what: object) -> None:
        print(way["name"], step, what, sep="\t")

    try:
        engine_of(way, "wrong").connect()
    except sa.exc.OperationalError as error:
        saw("wrong password", str(error.orig).rpartition("FATAL:")[2].strip().splitlines()[0])
    engine = engine_of(way, way["password"])
    with engine.connect() as one:
        series = sa.func.generate_series(1, 5000).table_valued("i").render_derived()
        found = one.execute(sa.select(series.c.i, sa.func.md5(sa.cast(series.c.i, sa.Text))))
        saw("big", digest([tuple(row) for row in found]))
        streamed = one.execution_options(stream_results=True, yield_per=100)
        saw("cursor", digest([row[0] for row in streamed.execute(sa.select(series.c.i))]))
        wanted = sa.select(sa.func.count()).where(series.c.i.in_(range(2000)))
        saw("parameters", one.execute(wanted).scalar())
    try:
        with engine.begin() as one:
            one.execute(sa.text("SELECT * FROM nowhere"))
    except sa.exc.ProgrammingError as error:
        saw("error", str(error.orig).splitlines()[0])
    if way["writes"]:
        writes(engine, saw)
    engine.dispose()


def writes(engine: sa.Engine, saw: Any) -> None:
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Kept(note=f"ünï {i}", data=bytes([i % 256]) * 100) for i in range(300))
        session.commit()
        session.get_one(Kept, 7).note = "changed"
        session.commit()
        kept = session.scalars(sa.select(Kept).order_by(Kept.id)).all()
        saw("orm", digest([(one.id, one.note, one.data) for one in kept]))
        session.delete(kept[0])
        session.rollback()
        saw("rollback", session.scalar(sa.select(sa.func.count()).select_from(Kept)))
    Base.metadata.drop_all(engine)


for each in json.loads(sys.argv[1]):
    tour(each)
