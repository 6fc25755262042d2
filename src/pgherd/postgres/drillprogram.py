"""Writes small rows to the primary and measures how long none is acknowledged; for drills.

A program of its own, so that no agent keeps libpq loaded, and so that what stops the agent's loop
stops no measurement. The first line of its input is an `Order` as JSON, so that the password is in
no argument; then come words: `strike` (from here on gaps count) and `stop`. Its output is one JSON
object a line: how it stands, five times a second whatever a write waits for, then what it found,
and at last whether its table is left. Where its input ends it ends too, and its table with it.

A row is `(drill, n)` in `pgherd.drill`, which it makes and takes away again. A row is acknowledged
when its own commit was; what was told of an error, or of nothing, may be there or not.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

EVERY_S = 0.05
"""Between two writes: the finest that an outage is measured."""
TELL_S = 0.2
VERIFY_S = 15.0
CLEAR_S = 10.0
CONNECT_S = 2
"""The least that libpq takes."""
MANNERS = (
    f"application_name=pgherd-drill connect_timeout={CONNECT_S} "
    "keepalives_idle=2 keepalives_interval=1 keepalives_count=3 tcp_user_timeout=4000"
)
TABLE = """
CREATE SCHEMA IF NOT EXISTS pgherd;
CREATE TABLE IF NOT EXISTS pgherd.drill (
  drill text, n bigint, PRIMARY KEY (drill, n))
"""
TELLING = threading.Lock()
GONE = "DROP TABLE IF EXISTS pgherd.drill"
PUBLISHED = "SELECT pubname FROM pg_publication WHERE puballtables ORDER BY pubname LIMIT 1"
"""Who follows such a one would be told of a table that it does not have, and stop there."""


class Published(Exception):
    """A table of ours would be sent to others."""


class Tally:
    """What became of the writes so far. Times are of a monotonic clock, in seconds."""

    def __init__(self, now: float) -> None:
        self.acknowledged: set[int] = set()
        self.failed = 0
        self.gap_s = 0.0
        self.error = ""
        self._last = now
        self._struck = False

    def strike(self) -> None:
        """From here on: what was before says nothing about the drill."""
        self._struck, self.gap_s = True, 0.0

    def wrote(self, number: int, now: float) -> None:
        """A write was acknowledged."""
        self.acknowledged.add(number)
        if self._struck:
            self.gap_s = max(self.gap_s, now - self._last)
        self._last = now

    def missed(self, error: str) -> None:
        """One was not."""
        self.failed += 1
        self.error = error

    def told(self, now: float) -> dict[str, Any]:
        """For whoever started this."""
        return {
            "acknowledged": len(self.acknowledged),
            "failed": self.failed,
            "gap_ms": round(self.gap_s * 1000),
            "idle_ms": round((now - self._last) * 1000),
            "error": self.error,
        }


class Writer:
    """One session, made anew when it breaks."""

    def __init__(self, conninfo: str, drill: str) -> None:
        self._conninfo = f"{conninfo} {MANNERS}"
        self._drill = drill
        self._connection: psycopg.Connection[Any] | None = None

    def connect(self) -> psycopg.Connection[Any]:
        """The session, open. Raises psycopg.Error."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._conninfo, autocommit=True)
            self._connection.prepare_threshold = None  # a pool lends another server each time
        return self._connection

    def make(self) -> None:
        """The table, without that of a drill that ended in the middle. Raises psycopg.Error, and
        Published where subscribers could not take it.
        """
        one = self.connect()
        found = one.execute(PUBLISHED).fetchone()
        if found is not None:
            raise Published(f"publication {found[0]} is FOR ALL TABLES: its subscribers would stop")
        one.execute(GONE)
        one.execute(TABLE)

    def write(self, number: int) -> None:
        """Raises psycopg.Error."""
        try:
            self.connect().execute(
                "INSERT INTO pgherd.drill VALUES (%s, %s)", (self._drill, number)
            )
        except psycopg.Error:
            self.drop()
            raise

    def rows(self) -> set[int]:
        """What is there. Raises psycopg.Error."""
        try:
            found = self.connect().execute(
                "SELECT n FROM pgherd.drill WHERE drill = %s", (self._drill,)
            )
            return {int(n) for (n,) in found.fetchall()}
        except psycopg.Error:
            self.drop()
            raise

    def clear(self) -> None:
        """The table goes. Raises psycopg.Error."""
        try:
            self.connect().execute(GONE)
        except psycopg.Error:
            self.drop()
            raise

    def drop(self) -> None:
        """The next use connects anew."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def main() -> None:
    """See the module's text."""
    order = json.loads(sys.stdin.readline())
    stop, strike = threading.Event(), threading.Event()
    threading.Thread(target=listen, args=(stop, strike), daemon=True).start()
    writer = Writer(order["conninfo"], order["drill"])
    tally = Tally(time.monotonic())
    with telling(tally):
        try:
            writer.make()
        except (psycopg.Error, Published) as error:
            tell({"problem": words(error)})
            return
        load(writer, tally, stop, strike)
        found = verified(writer, tally.acknowledged)
    tell({**tally.told(time.monotonic()), **found, "final": True})
    tell({"left": cleared(writer)})


@contextlib.contextmanager
def telling(tally: Tally) -> Iterator[None]:
    """Meanwhile how it stands is told, also while a write waits."""
    over = threading.Event()

    def often() -> None:
        while not over.wait(TELL_S):
            tell(tally.told(time.monotonic()))

    teller = threading.Thread(target=often, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def listen(stop: threading.Event, strike: threading.Event) -> None:
    """The words of whoever started this, until there are no more."""
    for line in sys.stdin:
        if line.strip() == "strike":
            strike.set()
        elif line.strip() == "stop":
            break
    stop.set()


def load(writer: Writer, tally: Tally, stop: threading.Event, strike: threading.Event) -> None:
    """Write until told to stop."""
    number, struck = 0, False
    while not stop.is_set():
        number += 1
        try:
            writer.write(number)
            tally.wrote(number, time.monotonic())
        except psycopg.Error as error:
            tally.missed(words(error))
        if strike.is_set() and not struck:
            struck = True
            tally.strike()
            tell({"struck": True})
        time.sleep(EVERY_S)


def verified(writer: Writer, acknowledged: set[int]) -> dict[str, Any]:
    """How many rows that were acknowledged are not there."""
    rows: set[int] = set()

    def count() -> None:
        rows.update(writer.rows())

    if problem := tried(count, VERIFY_S):
        return {"missing": 0, "problem": f"the rows could not be counted: {problem}"}
    return {"missing": len(acknowledged - rows)}


def cleared(writer: Writer) -> str:
    """That the table is left, and why; "" where it is gone."""
    problem = tried(writer.clear, CLEAR_S)
    return f"the table pgherd.drill is left: {problem}" if problem else ""


def tried(what: Callable[[], None], limit_s: float) -> str:
    """Again until it works; what is in the way where it does not."""
    until, problem = time.monotonic() + limit_s, "not tried"
    while time.monotonic() < until:
        try:
            what()
        except psycopg.Error as error:
            problem = words(error)
            time.sleep(EVERY_S)
        else:
            return ""
    return problem


def words(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())


def tell(what: dict[str, Any]) -> None:
    """One line, whichever thread tells it; nothing where nobody listens any more."""
    with TELLING, contextlib.suppress(OSError):
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
