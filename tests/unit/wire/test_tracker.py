"""Proves what a tracker says: idle only when nothing is under way, clean only when that is sure."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgherd.wire import query
from pgherd.wire.startup import ProtocolViolation
from pgherd.wire.tracker import (
    PREPARED_BYTES_MAX,
    PREPARED_MAX,
    STATEMENT_BYTES_MAX,
    Tracker,
)

FAILED = b"SERROR\0C22012\0Mno\0\0"


def message(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + (4 + len(body)).to_bytes(4, "big") + body


def done(tag: str) -> bytes:
    return message("C", tag.encode() + b"\0")


def ready(status: str = "I") -> bytes:
    return message("Z", status.encode())


def reports(name: str, value: str) -> bytes:
    return message("S", f"{name}\0{value}\0".encode())


class Story:
    """A session that talks."""

    def __init__(self) -> None:
        self.tracker = Tracker()
        self.tracker.server(reports("TimeZone", "UTC") + reports("session_authorization", "ann"))

    def simple(self, statement: str, *tags: str, status: str = "I") -> Tracker:
        """A statement and its answer."""
        self.tracker.client(query.simple(statement))
        assert not self.tracker.is_idle
        self.tracker.server(b"".join(done(tag) for tag in tags) + ready(status))
        return self.tracker


def test_a_session_is_idle_between_answers_and_outside_transactions() -> None:
    """Also with several statements under way at once, and with any message cut."""
    story = Story()
    tracker = story.tracker
    assert tracker.is_idle
    assert not story.simple("BEGIN", "BEGIN", status="T").is_idle
    assert not tracker.is_busy
    assert not story.simple("SELECT 1/0", status="E").is_idle
    assert story.simple("ROLLBACK", "ROLLBACK").is_idle
    statement = query.simple("SELECT 1")
    tracker.client(statement[:4])
    assert not tracker.is_idle
    tracker.client(statement[4:] + statement)
    tracker.server(done("SELECT 1") + ready())
    assert tracker.is_busy
    answer = done("SELECT 1") + ready()
    tracker.server(answer[:-1])
    assert not tracker.at_boundary
    tracker.server(answer[-1:])
    assert tracker.is_idle
    assert tracker.is_clean


def test_the_extended_protocol_is_idle_after_its_sync() -> None:
    """What was sent without Sync is under way, answered or not."""
    tracker = Story().tracker
    tracker.client(message("P", b"\0SELECT 1\0\0\0") + message("H"))
    tracker.server(message("1"))
    assert not tracker.is_idle
    tracker.client(message("B") + message("E") + query.SYNC)
    assert not tracker.is_idle
    tracker.server(message("2") + done("SELECT 1") + ready())
    assert tracker.is_idle


def test_syncs_that_copy_swallows_are_not_waited_for() -> None:
    """libpq sends one with the COPY and one behind its data; one ReadyForQuery answers both."""
    tracker = Story().tracker
    tracker.client(message("P", b"\0COPY t FROM STDIN\0\0\0") + message("B") + message("E"))
    tracker.client(query.SYNC)
    tracker.server(message("1") + message("2") + message("G", bytes(3)))
    tracker.client(message("d", b"row\n") + message("c") + query.SYNC)
    assert not tracker.is_idle
    tracker.server(done("COPY 1") + ready())
    assert tracker.is_idle
    assert tracker.is_clean
    tracker.client(query.simple("COPY t FROM STDIN"))
    tracker.server(message("G", bytes(3)))
    tracker.client(message("d", b"row\n") + message("f", b"no\0"))
    tracker.server(message("E", FAILED) + ready())
    assert tracker.is_idle


@pytest.mark.parametrize(
    ("statement", "tag"),
    [
        ("SELECT temperature FROM holdings WHERE settled", "SELECT 5"),
        ("UPDATE t SET a = 1", "UPDATE 1"),
        ("INSERT INTO t VALUES (1)", "INSERT 0 1"),
        ("CREATE TABLE t (i int)", "CREATE TABLE"),
        ("SELECT pg_advisory_xact_lock(1)", "SELECT 1"),
        ("SET TimeZone TO 'Asia/Tokyo'", "SET"),
        ("set session timezone = 'UTC'", "SET"),
        ("SET TIME ZONE 'UTC'", "SET"),
        ("SET LOCAL work_mem = '1GB'", "SET"),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET"),
        ("SELECT temp, hold FROM weather", "SELECT 9"),
        ("INSERT INTO weather (temp) VALUES (1)", "INSERT 0 1"),
        ("SELECT set_config('a.b', 'it''s, true)', true)", "SELECT 1"),
        ("SELECT set_config('a.b', $1::text, 't')", "SELECT 1"),
        ("SELECT set_config('TimeZone', 'UTC', false)", "SELECT 1"),
        ("SELECT set_config('TimeZone', $1, false)", "SELECT 1"),
        ("DECLARE c CURSOR FOR SELECT 1", "DECLARE CURSOR"),
        ("NOTIFY news", "NOTIFY"),
        ("RESET ALL", "RESET"),
    ],
)
def test_what_leaves_nothing_is_clean(statement: str, tag: str) -> None:
    """What the server process forgets, or reports."""
    assert Story().simple(statement, tag).is_clean


@pytest.mark.parametrize(
    ("statement", "tag"),
    [
        ("CREATE TEMP TABLE t (i int)", "CREATE TABLE"),
        ("SELECT 1 INTO TEMPORARY t", "SELECT 1"),
        ("CREATE TABLE pg_temp.t (i int)", "CREATE TABLE"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "DECLARE CURSOR"),
        ("SELECT pg_advisory_lock(1)", "SELECT 1"),
        ("select PG_TRY_ADVISORY_LOCK_SHARED(1)", "SELECT 1"),
        ("SELECT set_config('work_mem', '1GB', false)", "SELECT 1"),
        ("SELECT set_config('TimeZone', v, false) FROM t", "SELECT 1"),
        ("SELECT set_config('TimeZone', 'x', false), set_config('a.b', 'c', false)", "SELECT 1"),
        ("SELECT set_config('a.b', 'c', true), set_config('a.b', 'c', is_local)", "SELECT 1"),
        ("SELECT set_config('a.b', 'c, true)', false)", "SELECT 1"),
        ("SELECT set_config('a.b', E'c\\', true)', false)", "SELECT 1"),
        ("create or replace local temporary view v as select 1", "CREATE VIEW"),
        ("CREATE /* here */ TEMP TABLE t (i int)", "CREATE TABLE"),
        ("SELECT 1 INTO TEMP t", "SELECT INTO"),
        ("DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT 1", "DECLARE CURSOR"),
        ("SELECT lastval()", "SELECT 1"),
        ("LISTEN news", "LISTEN"),
        ("PREPARE p AS SELECT 1", "PREPARE"),
        ("LOAD 'auto_explain'", "LOAD"),
        ("SET work_mem = '1GB'", "SET"),
        ("SET ROLE bob", "SET"),
        ("SET SESSION AUTHORIZATION bob", "SET"),
        ("SET session_authorization = bob", "SET"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET"),
        ("/* hidden */ SET work_mem = '1GB'", "SET"),
        ("DO $$ BEGIN PERFORM 1; END $$", "DO"),
        ("SOMETHING NEW", "SOMETHING NEW"),
        ("SELECT '" + "x" * STATEMENT_BYTES_MAX + "'", "SELECT 1"),
    ],
)
def test_what_leaves_something_is_not_clean(statement: str, tag: str) -> None:
    """It stays so whatever comes, until DISCARD ALL."""
    story = Story()
    assert not story.simple(statement, tag).is_clean
    assert not story.simple("SELECT 1", "SELECT 1").is_clean
    assert story.tracker.reasons
    assert story.simple("DISCARD ALL", "DISCARD ALL").is_clean


def test_several_sets_are_counted_each() -> None:
    """One that is not reported is not hidden by one that is."""
    assert Story().simple("SET TimeZone TO 'UTC'; SET LOCAL a.b = 1", "SET", "SET").is_clean
    assert not Story().simple("SET TimeZone TO 'UTC'; SET work_mem = 1", "SET", "SET").is_clean
    story = Story()
    story.tracker.client(message("B") + message("E") + query.SYNC)  # prepared long ago
    story.tracker.server(message("2") + done("SET") + ready())
    assert not story.tracker.is_clean


def test_settings_follow_what_the_server_reports() -> None:
    """So that another server process can be given them."""
    story = Story()
    story.tracker.server(reports("TimeZone", "Asia/Tokyo"))
    assert story.tracker.settings["TimeZone"] == "Asia/Tokyo"


def parse(name: str, text: str = "SELECT 1") -> bytes:
    return message("P", f"{name}\0{text}\0\0\0".encode())


def test_prepared_statements_are_kept_as_the_server_has_them() -> None:
    """Confirmed and not closed since; a simple query takes the place of the one without a name."""
    tracker = Story().tracker
    tracker.client(parse("") + parse("one") + parse("two", "SELECT 2") + query.SYNC)
    tracker.server(message("1") * 3)
    assert tracker.statements == (parse(""), parse("one"), parse("two", "SELECT 2"))
    tracker.server(ready())
    tracker.client(query.simple("SELECT 1"))
    tracker.server(done("SELECT 1") + ready())
    assert tracker.statements == (parse("one"), parse("two", "SELECT 2"))
    tracker.client(message("C", b"Sone\0") + message("C", b"P\0") + query.SYNC)
    tracker.server(message("3") * 2 + ready())
    assert tracker.statements == (parse("two", "SELECT 2"),)
    assert tracker.is_clean


def test_what_follows_an_error_was_not_even_read() -> None:
    """Statements before it stay, those behind it never were; a Close behind it closed nothing."""
    tracker = Story().tracker
    said = parse("one") + parse("bad") + parse("two") + message("C", b"Sone\0")
    tracker.client(said + query.SYNC)
    tracker.server(message("1") + message("E", FAILED) + ready())
    assert tracker.statements == (parse("one"),)
    tracker.client(parse("two") + query.SYNC)
    tracker.server(message("1") + ready())
    assert tracker.statements == (parse("one"), parse("two"))
    assert tracker.is_clean


@pytest.mark.parametrize(
    ("statement", "tags", "left"),
    [
        ("DEALLOCATE one", ["DEALLOCATE"], ["Two"]),
        ('deallocate PREPARE "Two"', ["DEALLOCATE"], ["one"]),
        ("DEALLOCATE ONE; DEALLOCATE two", ["DEALLOCATE"] * 2, ["Two"]),
        ("DEALLOCATE ALL", ["DEALLOCATE ALL"], []),
        ("DISCARD ALL", ["DISCARD ALL"], []),
    ],
)
def test_statements_are_forgotten_by_sql(statement: str, tags: list[str], left: list[str]) -> None:
    """By their names as PostgreSQL reads them."""
    story = Story()
    story.tracker.client(parse("one") + parse("Two") + query.SYNC)
    story.tracker.server(message("1") * 2 + ready())
    tracker = story.simple(statement, *tags)
    assert tracker.statements == tuple(parse(name) for name in left)
    assert tracker.is_clean


def test_a_name_that_is_not_known_to_be_forgotten_is_not_clean() -> None:
    """The text was sent long before: only its execution is seen."""
    tracker = Story().tracker
    tracker.client(message("B") + message("E") + query.SYNC)
    tracker.server(message("2") + done("DEALLOCATE") + ready())
    assert tracker.reasons == ("DEALLOCATE",)


def test_no_more_is_kept_than_is_allowed() -> None:
    """Such a session cannot move; DISCARD ALL leaves what it cannot have met."""
    tracker = Story().tracker
    tracker.client(query.simple("DISCARD ALL") + parse("two") + query.SYNC)
    tracker.server(done("DISCARD ALL") + ready() + message("1") + ready())
    assert tracker.statements == (parse("two"),)
    for number in range(PREPARED_MAX + 5):
        tracker.client(parse(str(number)))
    assert tracker.reasons == (f"more than {PREPARED_MAX} prepared",)
    tracker = Story().tracker
    text = "SELECT '" + "x" * (STATEMENT_BYTES_MAX - 100) + "'"
    for number in range(PREPARED_BYTES_MAX // len(text) + 2):
        tracker.client(parse(str(number), text) + query.SYNC)
        tracker.server(message("1") + ready())
    assert tracker.reasons == (f"statements of more than {PREPARED_BYTES_MAX} bytes prepared",)
    assert sum(map(len, tracker.statements)) <= PREPARED_BYTES_MAX + 100 * len(tracker.statements)


def test_a_session_that_ends_is_over() -> None:
    """By the client's word, or by a FATAL error of the server; not by any other."""
    tracker = Story().tracker
    tracker.server(message("E", FAILED))
    assert not tracker.is_over
    tracker.server(message("E", b"SFATAL\0VFATAL\0C57P05\0Mtoo late\0\0"))
    assert tracker.is_over
    tracker = Story().tracker
    tracker.client(query.TERMINATE)
    assert tracker.is_over


def test_what_has_begun_is_told_from_what_has_not() -> None:
    """A held session may say what belongs to a transaction, a batch, a COPY; nothing else."""
    story = Story()
    tracker = story.tracker
    assert not tracker.goes_on
    story.simple("BEGIN", "BEGIN", status="T")
    assert tracker.goes_on
    tracker.client(query.simple("COMMIT"))
    assert not tracker.goes_on, "whether a transaction is open then is not known yet"
    tracker.server(done("COMMIT") + ready())
    assert not tracker.goes_on
    tracker.client(parse("") + message("H"))
    assert tracker.goes_on
    tracker.client(query.SYNC)
    assert not tracker.goes_on
    tracker.server(message("1") + ready())
    tracker.client(query.simple("COPY t FROM STDIN"))
    assert not tracker.goes_on
    tracker.server(message("G", bytes(3)))
    assert tracker.goes_on


def test_another_server_process_goes_on_with_it() -> None:
    """In its place: what it reports counts, and a message of the old one that was cut does not."""
    tracker = Story().tracker
    tracker.client(parse("one") + query.SYNC)
    tracker.server(message("1") + ready() + message("N", b"half")[:3])
    tracker.restart({"TimeZone": "UTC"})
    assert tracker.is_idle
    assert tracker.statements == (parse("one"),)
    tracker.client(query.simple("SELECT 1"))
    tracker.server(done("SELECT 1") + ready())
    assert tracker.is_idle
    assert tracker.is_clean


def test_functions_and_replication_are_not_clean() -> None:
    """A function call by number may be anything; a replication stream never ends."""
    tracker = Story().tracker
    tracker.client(message("F", bytes(8)))
    tracker.server(message("V") + ready())
    assert not tracker.is_clean
    assert tracker.is_idle
    tracker = Story().tracker
    tracker.client(query.simple("START_REPLICATION 0/0"))
    tracker.server(message("W", bytes(3)))
    assert not tracker.is_clean
    assert not tracker.is_idle
    assert tracker.takes_wal
    assert tracker.goes_on, "what it confirms is not kept in a hold"
    tracker.client(message("d", b"confirmed") + message("c"))
    tracker.server(message("c") + done("START_STREAMING") + ready())
    assert tracker.is_idle
    assert not tracker.takes_wal


def test_an_answer_to_nothing_is_not_trusted() -> None:
    """A count that is off must not let a session move."""
    tracker = Story().tracker
    tracker.server(ready())
    assert not tracker.is_clean


statements = st.lists(
    st.sampled_from(["SELECT 1", "BEGIN", "COMMIT", "SELECT 'Z\0\0\0\5I'"]), max_size=6
)


@settings(max_examples=200, deadline=None)
@given(statements, st.lists(st.integers(1, 90), max_size=10))
def test_however_it_is_cut_a_pipeline_is_idle_at_its_end_only(
    said: list[str], cuts: list[int]
) -> None:
    """Each answer but the last leaves it busy; rows that look like ReadyForQuery change nothing."""
    tracker = Story().tracker
    asked = b"".join(query.simple(each.replace("\0", "0")) for each in said)
    row = message("D", b"\0\1\0\0\0\6Z\0\0\0\5I")
    answers = b"".join(row + done("SELECT 1") + ready() for _ in said)
    places = sorted({0, *(cut for cut in cuts if cut < len(asked)), len(asked)})
    for start, end in pairwise(places):
        tracker.client(asked[start:end])
    for at in range(len(answers)):
        assert not tracker.is_idle
        tracker.server(answers[at : at + 1])
    assert tracker.is_idle
    assert tracker.is_clean


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.one_of(
                st.binary(max_size=30),
                st.tuples(st.sampled_from("QPBESCFdcfHXZGWTDA1EKN"), st.binary(max_size=30)).map(
                    lambda pair: message(*pair)
                ),
            ),
        ),
        max_size=8,
    )
)
def test_bad_bytes_only_violate(said: list[tuple[bool, bytes]]) -> None:
    """Nothing but ProtocolViolation comes out, whatever goes in on either side."""
    tracker = Tracker()
    with contextlib.suppress(ProtocolViolation):
        for is_client, data in said:
            (tracker.client if is_client else tracker.server)(data)
            assert isinstance(tracker.is_idle, bool)


def notice(code: str, routine: str, severity: str = "WARNING") -> bytes:
    fields = (f"SWARNUNG\0V{severity}\0C{code}\0M...\0", f"Fsyncrep.c\0L1\0R{routine}\0\0")
    return message("N", "".join(fields).encode())


def test_a_cancelled_wait_is_told_by_who_says_it() -> None:
    """In any language, however it is cut; nobody's own warning is taken for it."""
    for other in (
        notice("01000", "exec_stmt_raise"),
        notice("57P01", "SyncRepWaitForLSN"),
        notice("01000", "SyncRepWaitForLSN", severity="NOTICE"),
        message("N", b"SWARNING\0VWARNING\0C01000\0MRSyncRepWaitForLSN\0Rx\0\0"),
        message("D", notice("01000", "SyncRepWaitForLSN")),
    ):
        story = Story()
        story.tracker.server(other)
        assert story.tracker.wait_cancelled == b""
    said = notice("01000", "SyncRepWaitForLSN")
    tracker = Story().tracker
    tracker.server(done("INSERT 0 1") + said + ready())
    assert tracker.wait_cancelled == said
    tracker = Story().tracker
    for at in range(len(said)):
        assert tracker.wait_cancelled == b""
        tracker.server(said[at : at + 1])
    assert tracker.wait_cancelled == said
