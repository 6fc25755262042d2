"""Proves what a guarded session may say: loud enough, never below the floor, byte for byte else."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgherd.wire import query
from pgherd.wire.guard import Guard, TooQuiet, check_settings, startup_refusal
from pgherd.wire.lowering import asked_at_startup, made_loud, settings_in
from pgherd.wire.tracker import STATEMENT_BYTES_MAX


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (4 + len(body)).to_bytes(4, "big") + body


def passed(statement: str, *, has_floor: bool = False) -> bytes:
    """What becomes of a Query, without its header and its end."""
    said = Guard(has_floor=has_floor).client(query.simple(statement))
    assert int.from_bytes(said[1:5], "big") == len(said) - 1
    return said[5:-1]


@pytest.mark.parametrize(
    ("statement", "louder"),
    [
        ("SET client_min_messages = error", "SET client_min_messages = warning"),
        ("set local Client_Min_Messages to 'PANIC'", "set local Client_Min_Messages to 'warning'"),
        ('SET LOCAL "client_min_messages"="fatal"', 'SET LOCAL "client_min_messages"="warning"'),
        (
            "SELECT 1; select pg_catalog.set_config('client_min_messages' , 'error',false), 2",
            "SELECT 1; select pg_catalog.set_config('client_min_messages' , 'warning',false), 2",
        ),
        (
            "DO $x$ BEGIN SET/*a*/client_min_messages/**/TO error; END $x$; SET a.b = 'error'",
            "DO $x$ BEGIN SET/*a*/client_min_messages/**/TO warning; END $x$; SET a.b = 'error'",
        ),
        (
            "SET client_min_messages=error; SET client_min_messages=fatal -- error",
            "SET client_min_messages=warning; SET client_min_messages=warning -- error",
        ),
    ],
)  # fmt: skip
def test_warnings_stay_audible(statement: str, louder: str) -> None:
    assert passed(statement) == louder.encode()


@pytest.mark.parametrize(
    "statement",
    [
        "SET client_min_messages = warning",
        "SET client_min_messages TO DEFAULT",
        "SHOW client_min_messages",
        "SELECT 'SET client_min_messages = error'",
        'SELECT "SET client_min_messages = error" FROM t',
        "SELECT $$SET client_min_messages = error$$, E'it\\'s' -- SET client_min_messages = error",
        "ALTER ROLE ann SET client_min_messages = error",
        "CREATE FUNCTION f() RETURNS void SET client_min_messages = error AS $$ $$ LANGUAGE sql",
        "SELECT set_config('work_mem', 'client_min_messages', false)",
        "/* SET client_min_messages = error",
        "SET client_min_messages",
        "SET synchronous_commit = off",
        "SELECT client_min_messages FROM levels WHERE level = 'error'",
    ],
)
def test_all_else_passes_as_it_is(statement: str) -> None:
    assert passed(statement) == statement.encode()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("SET synchronous_commit = off", b'synchronous_commit "off" is below'),
        ("SET LOCAL synchronous_commit TO 'Remote_Write'", b'"remote_write" is below'),
        ("BEGIN; set synchronous_commit=0; COMMIT", b'"0" is below'),
        ("ALTER DATABASE d SET synchronous_commit TO local", b'"local" is below'),
        ("ALTER SYSTEM SET synchronous_commit = off", b'"off" is below'),
        ("DO 'x'; DO $$ BEGIN SET synchronous_commit = no; END $$", b'"no" is below'),
        ("SELECT set_config('synchronous_commit', (SELECT 'off'), true)", b"cannot be seen"),
        ("SELECT set_config('client_min_messages', v, true) FROM t", b"cannot be seen"),
        ("UPDATE pg_settings SET setting = $$off$$ WHERE name = 'synchronous_commit'", b"cannot"),
    ],
)
def test_the_floor_holds(statement: str, words: bytes) -> None:
    said = passed(statement, has_floor=True)
    assert said.startswith(b"DO $pgherd$")
    assert words in said
    if b"client_min" not in said:
        assert passed(statement) == statement.encode()


def test_a_statement_with_values_fails_as_it_is_parsed() -> None:
    """Its name and the types of its parameters stay, so that what follows it finds it."""
    text = b"SELECT set_config('client_min_messages', $1, false)"
    said = Guard(has_floor=False).client(message(b"P", b"name\0" + text + b"\0\0\1\0\0\0\31"))
    assert said.startswith(message(b"P", b"")[:1])
    assert b"name\0SELECT 'pgherd: client_min_messages is given a value" in said
    assert said.endswith(b"'::int\0\0\1\0\0\0\31")


def test_a_statement_beyond_the_limit_is_neither_kept_nor_read() -> None:
    guard = Guard(has_floor=True)
    said = query.simple("SET synchronous_commit = off; SELECT '" + "x" * STATEMENT_BYTES_MAX + "'")
    assert guard.client(said[:100]) == said[:100]
    assert not guard.holds
    assert guard.client(said[100:] + query.SYNC) == said[100:] + query.SYNC


mixed = st.lists(
    st.one_of(
        st.builds(message, st.sampled_from([b"d", b"B", b"X", b"S"]), st.binary(max_size=40)),
        st.builds(query.simple, st.sampled_from(["SELECT 1", "SET client_min_messages = error"])),
        st.builds(
            lambda text: message(b"P", b"p\0" + text + b"\0\0\0"),
            st.sampled_from([b"SET synchronous_commit = off", b"SELECT 2"]),
        ),
    ),
    max_size=9,
)


@settings(max_examples=300, deadline=None)
@given(mixed, st.lists(st.integers(1, 400), max_size=9))
def test_cuts_change_nothing(said: list[bytes], cuts: list[int]) -> None:
    """However the bytes come, the server gets the same, and at the end all of it."""
    stream = b"".join(said)
    whole = Guard(has_floor=True)
    expected = whole.client(stream)
    assert not whole.holds
    guard, found = Guard(has_floor=True), b""
    places = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    for start, end in pairwise(places):
        found += guard.client(stream[start:end])
    assert found == expected
    assert not guard.holds


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="client_min_messages set=to'\"$/*-e;\\()dox", max_size=200))
def test_no_text_stops_the_reader(text: str) -> None:
    """What is found stands where it says."""
    statement = f"SET client_min_messages = error; {text}".encode()
    for one in settings_in(statement):
        assert 0 <= one.start <= one.end <= len(statement)
    assert passed(statement.decode())


def test_what_a_session_begins_with() -> None:
    """Options and parameters, as PostgreSQL ranks them; what is kept elsewhere is asked for."""
    options = ("options", "-c synchronous_commit=off --client-min-messages=Error -cwork_mem=1\\ kB")
    assert asked_at_startup((options,)) == {
        "synchronous_commit": "off",
        "client_min_messages": "error",
    }
    asked = asked_at_startup((("Synchronous_Commit", "on"), options))
    assert asked["synchronous_commit"] == "on"
    assert startup_refusal(asked) is None
    refusal = startup_refusal({"synchronous_commit": "local"})
    assert refusal is not None
    assert refusal.sqlstate == "42501"
    loud = made_loud((("user", "ann"), ("CLIENT_MIN_MESSAGES", "error")))
    assert loud == (("user", "ann"), ("client_min_messages", "warning"))
    assert check_settings([("off",), ("notice",)], has_floor=False) is None
    assert check_settings([("remote_apply",), ("warning",)], has_floor=True) is None
    kept = check_settings([("remote_write",), ("warning",)], has_floor=True)
    assert kept is not None
    assert "of this role or database" in kept.message
    with pytest.raises(TooQuiet):
        check_settings([("on",), ("error",)], has_floor=True)
