"""What PostgreSQL and its tools say, read into values."""

from __future__ import annotations

import asyncio
import struct
import time
from pathlib import Path

import pytest

from pgherd.model.errors import OperatorError, PostgresError
from pgherd.model.ids import Lsn, Position, Term, parse_lsn
from pgherd.model.remedy import Copied
from pgherd.postgres import (
    binaries,
    clone,
    datadir,
    launch,
    look,
    pgcontrol,
    probe,
    processes,
    progress,
)
from pgherd.postgres.probe import Probe
from pgherd.postgres.rewind import RewindOutcome, judge

CONTROL = """\
pg_control version number:            1300
Database system identifier:           7710513348776727543
Database cluster state:               in production
Latest checkpoint location:           0/1FFFFB0
Latest checkpoint's REDO location:    0/1FFFF78
Latest checkpoint's TimeLineID:       2
Minimum recovery ending location:     0/0
Min recovery ending loc's timeline:   0
Backup start location:                0/1FFFF10
wal_level setting:                    replica
wal_log_hints setting:                on
max_connections setting:              100
max_worker_processes setting:         8
max_wal_senders setting:              12
max_prepared_xacts setting:           0
max_locks_per_xact setting:           64
Bytes per WAL segment:                16777216
Data page checksum version:           1
"""


def test_pg_controldata_is_read_whole():
    """Every field that a decision rests on."""
    found = pgcontrol.parse(CONTROL)
    assert found.system_id == "7710513348776727543"
    assert (found.state, found.clean, found.timeline) == ("in production", False, 2)
    assert (found.checkpoint, found.redo) == (0x1FFFFB0, 0x1FFFF78)
    assert found.backup_start == 0x1FFFF10
    assert (found.checksums, found.wal_log_hints) == (True, True)
    assert found.demanded["max_wal_senders"] == 12
    stopped = pgcontrol.parse(CONTROL.replace("in production", "shut down in recovery"))
    assert stopped.clean
    assert (found.was_primary, stopped.was_primary) == (True, False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        CONTROL.replace("Latest checkpoint's TimeLineID", "Something else"),
        "WARNING: Calculated CRC checksum does not match value stored in file.\n" + CONTROL,
        CONTROL + "pg_controldata: warning: calculated CRC checksum does not match\n",
    ],
)
def test_a_damaged_pg_control_is_an_error(text):
    """A warning of the tool or a missing field never becomes a value."""
    with pytest.raises(PostgresError):
        pgcontrol.parse(text)


@pytest.mark.parametrize(
    ("text", "pid"),
    [
        ("123\n/data\n1700000000\n5432\n/run\n*\n", 123),
        ("-123\n", 123),
        ("0\n", None),
        ("", None),
        ("x\n", None),
    ],
)
def test_postmaster_pid_is_read_with_care(text, pid):
    """No pid ever becomes 0, which would mean our own process group."""
    found = processes.parse_pid_file(text)
    assert (found.pid if found is not None else None) == pid


def test_the_oldest_segment_counts_over_timelines():
    """File names of any timeline; history files and the rest are skipped."""
    names = [
        "000000020000000100000003",
        "0000000100000000000000FE",
        "00000002.history",
        "archive_status",
        "000000010000000000000001.partial",
    ]
    assert datadir.oldest_segment(names, 16 << 20) == 0xFE << 24
    assert datadir.oldest_segment([], 16 << 20) == 0


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", (15, 18)),
        ("postgres (PostgreSQL) 18.6", (18, 6)),
        ("postgres (PostgreSQL) 18beta1", (18, 0)),
    ],
)
def test_versions_are_read(text, version):
    """Debian's, plain and beta versions."""
    assert binaries.parse_version(text) == version


def test_versions_that_lose_commits_or_are_unknown_are_refused():
    """The minor releases of PROTOCOL.md 3, and majors outside 14-18."""
    for good in [(14, 18), (15, 13), (16, 9), (17, 5), (18, 0)]:
        binaries.check_version(good, Path("/x"))
    for bad in [(13, 23), (14, 17), (15, 12), (16, 8), (17, 4), (19, 0)]:
        with pytest.raises(OperatorError) as refused:
            binaries.check_version(bad, Path("/x"))
        assert refused.value.hint


def error(code: str) -> bytes:
    """An ErrorResponse's body."""
    return b"SFATAL\0VFATAL\0C" + code.encode() + b"\0Mwords\0\0"


@pytest.mark.parametrize(
    ("kind", "body", "verdict"),
    [
        (b"E", error("57P03"), Probe.STARTING),
        (b"E", error("53300"), Probe.FULL),
        (b"E", error("28000"), Probe.ALIVE),
        (b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0", Probe.ALIVE),
        (b"R", struct.pack("!I", 0), None),
        (b"S", b"a\0b\0", None),
        (b"Z", b"I", Probe.ALIVE),
    ],
)
def test_a_probe_judges_the_servers_messages(kind, body, verdict):
    """Ready or asking for a password: alive; 57P03: starting; 53300: full, which is alive."""
    assert probe.judge(kind, body) is verdict


def test_progress_is_found_in_the_tools_talk():
    """pg_basebackup's and pg_rewind's lines."""
    whole = progress.read("23908/23908 kB (100%), 1/1 tablespace", after_ms=7)
    assert whole == Copied(100, 23908 << 10, 23908 << 10, 7)
    assert progress.read(" 51234/67890 kB (75%) copied") == Copied(75, 51234 << 10, 67890 << 10)
    assert progress.read("waiting for checkpoint") is None
    grown = progress.read("70000/67890 kB (103%)")
    assert grown is not None, "the total is an estimate"
    assert grown.percent == 100


def test_a_rewind_is_judged_by_code_and_words():
    """Exit code 0 with "no rewind required" is not a rewind (PROTOCOL.md 0.13)."""
    assert judge(0, "pg_rewind: no rewind required", "").outcome is RewindOutcome.NOT_REQUIRED
    done = judge(0, "pg_rewind: servers diverged ...\npg_rewind: Done!", "")
    assert (done.outcome, done.touched) == (RewindOutcome.DONE, True)
    early = judge(1, "could not connect", "could not connect")
    assert (early.outcome, early.reason, early.touched) == (
        RewindOutcome.FAILED,
        "could not connect",
        False,
    )
    late = judge(1, "need to copy 5 MB\n1/5 kB (20%) copied", "connection lost")
    assert late.touched


def test_a_kept_copys_position_is_read_or_unknown():
    """An empty or broken file means: unknown, keep it."""
    assert clone.parse_position('{"epoch":3,"lsn":5}') == Position(Term(3), Lsn(5))
    for text in ["", "{", "[]", '{"epoch":"x"}']:
        assert clone.parse_position(text) is None


SLOTS = [["pgherd_b", "physical", None, True, "reserved", None, None, None, None, False]]
ROW = (
    *(True, None, None, None, "0/3000060", "0/3000060", False, "77", 1, "0/2000028", 2),
    *('"pgherd-closed"', "host=10.0.0.1 port=5433 application_name='b.0a1b2c@7'", "pgherd_b"),
    *(1700000000.5, [42, "streaming", "0/3000060", 2, "host=10.0.0.1 port=5433", "pgherd_b"]),
    *("RecoveryWalStream", [], SLOTS, None, "cp %p", 150004, True),
)


def test_a_look_at_a_standby():
    """Position is the replayed end under the newest epoch; upstream comes from its own text."""
    seen = look.read(ROW, (7, "a"), settings_problem="")
    assert seen.position == Position(Term(7), parse_lsn("0/3000060"))
    assert (seen.upstream_token, seen.upstream_host, seen.upstream_port) == (
        "b.0a1b2c@7",
        "10.0.0.1",
        5433,
    )
    assert seen.receiver is not None
    assert (seen.receiver.pid, seen.receiver.timeline, seen.timeline) == (42, 2, 2)
    assert seen.slots[0].lsn == 0
    assert (seen.version_num, seen.fetches) == (150004, True)
    assert seen.parked
    bare = look.read((*ROW[:12], "", "", *ROW[14:15], None, *ROW[16:]), None, settings_problem="")
    assert (bare.receiver, bare.upstream_token, bare.epoch) == (None, "", 0)


def test_a_look_at_a_primary():
    """Position is the flushed end; the timeline is that of the WAL being written."""
    row = (
        *(False, "0/3000100", "0/3000200", "00000005000000000000000003", "0/1", None, False),
        *ROW[7:15],
        *(None, None, [[7, "b.0a1b2c@7", "streaming", "quorum", "0/5", "0/4", None, 1.5, None]]),
        *([], 10 << 30, "", 180001, False),
    )
    seen = look.read(row, None, settings_problem="x")
    assert seen.position == Position(Term(0), parse_lsn("0/3000100"))
    assert (seen.timeline, seen.slot_budget_bytes) == (5, 10 << 30)
    assert (seen.version_num, seen.started_unix) == (180001, 1700000000.5)
    assert (seen.senders[0].flush_lsn, seen.senders[0].replay_lsn) == (4, 0)
    assert seen.settings_problem == "x"


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (b"Ecould not fork new process for connection: No\n\0", Probe.FORKLESS),
        (b"", Probe.REFUSED),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Probe.HUNG),
        (None, Probe.HUNG),
    ],
    ids=["no process", "closed", "another program", "silent"],
)
def test_what_answers_at_the_socket(tmp_path, said, verdict):
    """A postmaster without processes says so in plain text, which is an answer."""

    async def story():
        async def answer(reader, writer):
            await reader.read(8)
            if said is not None:
                writer.write(said)
                writer.close()
                return
            await reader.read()

        path = str(tmp_path / "s")
        server = await asyncio.start_unix_server(answer, path)
        found = await probe.probe(path, user="a", database="a", timeout_s=0.2)
        server.close()
        return found

    assert asyncio.run(story()) is verdict
    assert Probe.FORKLESS.answers
    assert not Probe.FORKLESS.is_alive


def test_a_stall_of_our_own_is_no_silence(tmp_path):
    """The answer lies in the socket when the deadline is over: whoever was late, not the server."""

    async def story():
        async def answer(reader, writer):
            await reader.read(8)
            writer.write(b"Z\0\0\0\5I")
            await writer.drain()
            time.sleep(0.4)  # noqa: ASYNC251 - the whole process stands still

        path = str(tmp_path / "s")
        server = await asyncio.start_unix_server(answer, path)
        found = await probe.probe(path, user="a", database="a", timeout_s=0.2)
        server.close()
        return found

    assert asyncio.run(story()) is Probe.ALIVE


def test_why_a_postmaster_did_not_come_up():
    """A table of the kernel that is full is not a disk that is full; each with what to type."""
    cases = {
        "FATAL: could not create shared memory segment: No space left on device": "ipcs -m",
        "FATAL: could not write lock.tmp: No space left on device": "df -h",
        "could not bind IPv4: Address already in use": "ss -ltnp",
    }
    for said, command in cases.items():
        error = launch.why_not(said, port=5432)
        assert isinstance(error, OperatorError)
        assert error.hint.startswith(command)
    assert isinstance(launch.why_not("signal 11", port=5432), PostgresError)
