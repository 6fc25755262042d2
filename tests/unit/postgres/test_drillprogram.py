"""What the probe writes of a drill come to, and what they leave, without a server."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgherd.postgres import drillprogram
from pgherd.postgres.conninfo import read
from pgherd.postgres.drilling import Probe, conninfo
from pgherd.postgres.drillprogram import Published, Tally, Writer


def test_only_gaps_after_the_stroke_count() -> None:
    """From the last acknowledged write before it to the first one after."""
    tally = Tally(0.0)
    tally.wrote(1, 3.0)
    tally.wrote(2, 3.1)
    tally.strike()
    tally.missed("connection lost")
    tally.wrote(4, 3.7)
    tally.wrote(5, 3.8)
    told = tally.told(4.0)
    assert (told["gap_ms"], told["acknowledged"], told["failed"]) == (600, 4, 1)
    assert (told["idle_ms"], told["error"]) == (200, "connection lost")
    assert tally.acknowledged == {1, 2, 4, 5}


@pytest.mark.parametrize("finds_primary", [True, False])
def test_where_the_rows_go(finds_primary: bool) -> None:
    """Of servers only the primary will do; any proxy leads to it."""
    text = conninfo(
        (("10.0.0.1", 5432), ("fd00::2", 5433)),
        user="postgres",
        password="it's a secret",
        database="app",
        sslmode="verify-ca" if finds_primary else "prefer",
        ca="/pki/ca.crt" if finds_primary else "",
        finds_primary=finds_primary,
    )
    pairs = read(text)
    assert (pairs["host"], pairs["port"]) == ("10.0.0.1,fd00::2", "5432,5433")
    assert pairs["password"] == "it's a secret"
    assert pairs.get("sslrootcert") == ("/pki/ca.crt" if finds_primary else None)
    assert pairs.get("target_session_attrs") == ("read-write" if finds_primary else None)


class Table:
    """A server with one table. acts: of the next statements that begin so, what happens."""

    def __init__(self) -> None:
        self.rows: set[int] = set()
        self.is_there = False
        self.published: tuple[str] | None = None
        self.fails: dict[str, int] = {}
        self.closed = False
        self.prepare_threshold: int | None = 5

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> Table:
        words = statement.split()
        if "pg_publication" in statement:
            self._answer: list[Any] = [self.published] if self.published else []
            return self
        verb = words[0]
        if verb == "DROP":
            self.is_there, self.rows = False, set()
        elif verb == "CREATE":
            self.is_there = True
        elif not self.is_there:
            raise psycopg.errors.UndefinedTable("relation does not exist")
        elif verb == "INSERT":
            self.rows.add(values[1])
        else:
            self._answer = [(n,) for n in self.rows]
        if self.fails.get(verb, 0):  # done, and nobody is told
            self.fails[verb] -= 1
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return self

    def fetchall(self) -> list[Any]:
        return self._answer

    def fetchone(self) -> Any:
        return next(iter(self._answer), None)

    def close(self) -> None:
        pass


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    made = Table()
    monkeypatch.setattr(psycopg, "connect", lambda *_, **__: made)
    return made


def test_rows_are_counted_though_the_answer_to_the_drop_is_lost(table: Table) -> None:
    """What was counted stays counted; the table goes by itself, and again if need be."""
    writer = Writer("", "d1")
    writer.make()
    for n in (1, 2, 3):
        writer.write(n)
    table.rows.discard(2)
    table.fails = {"SELECT": 1, "DROP": 2}
    assert drillprogram.verified(writer, {1, 2, 3}) == {"missing": 1}
    assert drillprogram.cleared(writer) == ""
    assert not table.is_there


def test_a_table_that_stays_is_told(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drillprogram, "CLEAR_S", 0.1)
    writer = Writer("", "d1")
    writer.make()
    table.fails = {"DROP": 1000}
    assert "pgherd.drill is left: server closed" in drillprogram.cleared(writer)


def test_subscribers_are_not_sent_a_table_that_they_lack(table: Table) -> None:
    """Their apply would stop at it for good."""
    table.published = ("everything",)
    with pytest.raises(Published, match="publication everything is FOR ALL TABLES"):
        Writer("", "d1").make()
    assert not table.is_there


def test_it_is_told_how_things_stand_while_a_write_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An outage is measured as long as it lasts, and not until somebody loses patience."""
    told = threading.Event()
    monkeypatch.setattr(drillprogram, "TELL_S", 0.01)
    monkeypatch.setattr(drillprogram, "tell", lambda what: told.set())
    with drillprogram.telling(Tally(0.0)):
        assert told.wait(30)


PROGRAM = """
import json, pathlib, sys, time
sys.stdin.readline()
def tell(**what):
    print(json.dumps(what), flush=True)
tell(acknowledged=1)
for line in sys.stdin:
    if line.strip() == "stop":
        break
{end}
"""


def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, *, fails: bool = False
) -> tuple[Any, ...]:
    """A drill with a program in place of ours; fails: it is given up in its middle."""
    file = tmp_path / "program.py"
    file.write_text(PROGRAM.format(end=textwrap.dedent(end)))
    real = asyncio.create_subprocess_exec

    async def other(*argv: str, **options: Any) -> Any:
        return await real(sys.executable, str(file), **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", other)

    async def drill() -> tuple[Any, ...]:
        async with Probe("", "d1") as probe:
            await probe.until_acknowledged(1)
            if fails:
                raise ValueError("the switchover was refused")
            found, problem = await probe.end()
            return found, problem, await probe.left()

    return asyncio.run(drill())


def test_one_that_is_given_up_has_time_to_take_its_table_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its input ends, and it is not killed for that."""
    end = f"time.sleep(0.3); pathlib.Path({str(tmp_path / 'gone')!r}).touch()"
    with pytest.raises(ValueError, match="refused"):
        run(tmp_path, monkeypatch, end, fails=True)
    assert (tmp_path / "gone").exists()


def test_figures_stay_where_rows_could_not_be_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = """
        tell(final=True, gap_ms=700, acknowledged=30, problem="the rows could not be counted")
        tell(left="the table pgherd.drill is left: no answer")
        """
    found, problem, left = run(tmp_path, monkeypatch, end)
    assert (found.outage_ms, found.acknowledged) == (700, 30)
    assert problem == "the rows could not be counted"
    assert left == "the table pgherd.drill is left: no answer"


def test_one_that_dies_after_its_figures_may_leave_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, problem, left = run(tmp_path, monkeypatch, "tell(final=True, gap_ms=1)")
    assert (found.outage_ms, problem) == (1, "")
    assert "may be left" in left
