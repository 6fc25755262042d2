"""Proves what a tracker says: idle only when nothing is under way, clean only when that is sure."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgherd.wire import query
from pgherd.wire.startup import ProtocolViolation
from pgherd.wire.tracker import PREPARED_MAX, STATEMENT_BYTES_MAX, Tracker

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


def test_prepared_statements_count_until_they_are_closed() -> None:
    """The one without a name does not; nor do those that an older DISCARD ALL cannot have met."""
    tracker = Story().tracker
    tracker.client(message("P", b"\0SELECT 1\0\0\0") + query.SYNC)
    tracker.server(message("1") + ready())
    assert tracker.is_clean
    tracker.client(message("P", b"one\0SELECT 1\0\0\0") + query.SYNC)
    tracker.server(message("1") + ready())
    assert tracker.reasons == ("1 prepared",)
    tracker.client(message("C", b"Sone\0") + query.SYNC)
    tracker.server(message("3") + ready())
    assert tracker.is_clean
    tracker.client(query.simple("DISCARD ALL") + message("P", b"two\0SELECT 1\0\0\0") + query.SYNC)
    tracker.server(done("DISCARD ALL") + ready() + message("1") + ready())
    assert not tracker.is_clean
    for number in range(PREPARED_MAX + 5):
        tracker.client(message("P", b"%d\0SELECT 1\0\0\0" % number))
    assert f"more than {PREPARED_MAX} prepared" in tracker.reasons


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


def test_an_answer_to_nothing_is_not_trusted() -> None:
    """A count that is off must not let a session move."""
    tracker = Story().tracker
    tracker.server(ready())
    assert not tracker.is_clean


statements = st.lists(
    st.sampled_from(["SELECT 1", "BEGIN", "COMMIT", "SELECT 'Z\0\0\0\5I'"]), max_size=6
)


@settings(max_examples=200)
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


@settings(max_examples=400)
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
