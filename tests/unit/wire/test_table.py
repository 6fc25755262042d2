"""Proves that our own answers are read by the reader of a server's answers."""

from __future__ import annotations

from pgherd.wire.query import Answers
from pgherd.wire.table import EMPTY, READY, completed, described, notice, table


def test_rows_are_read_as_they_were_told() -> None:
    rows = [("shop", 3, True, None), ("ümit\0", -1, False, "x")]
    answers = Answers()
    said = notice("once") + table(("name", "count", "is_paused", "more"), rows, tag="SHOW") + READY
    assert not answers.feed(said[:30])
    assert answers.feed(said[30:])
    assert answers.take() == [("shop", 3, True, None), ("ümit", -1, False, "x")]


def test_a_table_without_rows_has_columns() -> None:
    said = table(("name", "count"), [], tag="SHOW")
    assert said == described(("name", "count")) + completed("SHOW")
    assert said[5:7] == b"\0\2"


def test_the_bytes_are_postgresqls() -> None:
    assert completed("PAUSE") == b"C\0\0\0\x0aPAUSE\0"
    assert described(("n",), (1,)) == (
        b"T\0\0\0\x1a\0\1n\0" + bytes(6) + b"\0\0\0\x14\0\x08\xff\xff\xff\xff\0\0"
    )
    assert EMPTY == b"I\0\0\0\4"
