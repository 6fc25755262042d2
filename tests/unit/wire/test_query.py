"""The client's side of a session: bytes out, rows in, whatever the pieces they come in."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgherd.wire import query
from pgherd.wire.query import Answers, ServerError
from pgherd.wire.startup import ProtocolViolation


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def columns(*oids: int) -> bytes:
    fields = b"".join(b"c\0" + struct.pack("!IhIhih", 0, 0, oid, -1, -1, 0) for oid in oids)
    return message(b"T", struct.pack("!h", len(oids)) + fields)


def row(*values: str | None) -> bytes:
    body = struct.pack("!h", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value.encode()))
        body += b"" if value is None else value.encode()
    return message(b"D", body)


READY = message(b"Z", b"I")
FAILED = message(b"E", b"SERROR\0VERROR\0C42P01\0Mno such table\0\0")
ENDED = message(b"E", b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0")


def test_the_startup_message_is_protocol_3():
    """Length, version 3.0, pairs, a closing zero byte."""
    first = query.startup({"user": "postgres", "database": "app"})
    assert struct.unpack("!II", first[:8]) == (len(first), 196608)
    assert first[8:] == b"user\0postgres\0database\0app\0\0"


def test_values_come_back_as_their_types_say():
    """Booleans, numbers, JSON, arrays of integers; text for all others; NULL is None."""
    answers = Answers()
    said = columns(16, 20, 701, 114, 1007, 25, 25, 3220)
    said += row("t", "-7", "1.5", '[1, "a"]', "{1,2}", "ä", None, "0/1A")
    assert answers.feed(said + message(b"C", b"SELECT 1\0") + READY)
    assert answers.take() == [(True, -7, 1.5, [1, "a"], [1, 2], "ä", None, "0/1A")]


@given(st.data())
def test_an_answer_may_come_in_any_pieces(data):
    """Cut anywhere: nothing before the end, the same rows at the end."""
    said = columns(23) + row("1") + row("2") + READY
    cuts = sorted(data.draw(st.sets(st.integers(1, len(said) - 1), max_size=6)))
    answers = Answers()
    for start, end in zip([0, *cuts], [*cuts, len(said)], strict=True):
        assert answers.feed(said[start:end]) is (end == len(said))
    assert answers.take() == [(1,), (2,)]


def test_after_an_error_the_session_goes_on():
    """The error is raised once; the next answer is its own."""
    answers = Answers()
    assert answers.feed(FAILED + READY)
    with pytest.raises(ServerError, match="no such table") as caught:
        answers.take()
    assert (caught.value.sqlstate, caught.value.fatal) == ("42P01", False)
    assert answers.feed(columns(25) + row("yes") + READY)
    assert answers.take() == [("yes",)]


def test_a_fatal_error_ends_the_answer_without_ready():
    """The server says nothing more after it."""
    answers = Answers()
    assert answers.feed(ENDED)
    with pytest.raises(ServerError, match="terminating") as caught:
        answers.take()
    assert caught.value.fatal


def test_a_server_that_wants_a_password_is_told_of():
    """The agent has none to give."""
    answers = Answers()
    assert answers.feed(message(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"))
    with pytest.raises(ServerError, match="peer"):
        answers.take()


def test_the_session_learns_its_backend():
    """From BackendKeyData, whatever the length of the key."""
    answers = Answers()
    assert answers.feed(
        message(b"R", bytes(4)) + message(b"K", struct.pack("!I", 4711) + bytes(32)) + READY
    )
    assert answers.take() == []
    assert answers.backend_pid == 4711


@pytest.mark.parametrize("junk", [b"HTTP/1.1 400 Bad Request\r\n", b"Z\x00\x00\x00\x00"])
def test_what_is_no_postgresql_is_refused(junk):
    """A length that cannot be is not waited for."""
    with pytest.raises(ProtocolViolation):
        Answers().feed(junk)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("it's", "it's"),
        (7, "7"),
        (True, "t"),
        ([1, 2], "{1,2}"),
        ([], "{}"),
        (['a"b', "c\\d", "e,f"], '{"a\\"b","c\\\\d","e,f"}'),
    ],
)
def test_values_leave_as_postgresql_reads_them(value, text):
    """Text as it is; arrays with every element quoted."""
    assert query.as_text(value) == text


def test_a_zero_byte_is_refused_before_it_cuts_a_statement_short():
    """In the protocol it would end the text."""
    with pytest.raises(ValueError, match="zero byte"):
        query.simple("SELECT 1\0; DROP TABLE t")
