"""Lines go out with cursors that lose and repeat none; a file that was replaced is begun anew; the
level of the log comes back by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from waiting import until

from pgherd.config.load import load_text
from pgherd.daemon.clusterreport import REPORT, ClusterReport, grown, routes_since
from pgherd.daemon.nodelogs import LogLevel, of_agent
from pgherd.model.errors import OperatorError
from pgherd.model.event import Event
from pgherd.model.ids import NodeId
from pgherd.model.nodelog import BYTES_MAX, LevelWish, LogAsked
from pgherd.postgres.logtail import read
from pgherd.telemetry import logs
from pgherd.telemetry.journal import Journal
from pgherd.telemetry.ring import Ring

SMALLEST = "version: 1\nnode: {name: n1, address: 127.0.0.1}\n"


def filled(count: int, **limits: int) -> Ring:
    ring = Ring(**limits)
    for number in range(count):
        ring.add(b"line %d" % number)
    return ring


def test_the_newest_lines_and_then_what_came_since() -> None:
    ring = filled(5)
    first = of_agent(ring, LogAsked(lines=2))
    assert first.lines == ("line 3", "line 4")
    nothing = of_agent(ring, LogAsked(lines=9, cursor=first.cursor))
    assert (nothing.lines, nothing.cursor) == ((), first.cursor)
    ring.add(b"line 5")
    ring.add(b"line 6")
    one = of_agent(ring, LogAsked(lines=1, cursor=first.cursor))
    two = of_agent(ring, LogAsked(lines=1, cursor=one.cursor))
    assert one.lines + two.lines == ("line 5", "line 6")
    assert not one.skipped


def test_lines_that_are_gone_are_admitted() -> None:
    """The ring went round, or the agent is another process by now."""
    ring = filled(3)
    cursor = of_agent(ring, LogAsked()).cursor
    late = filled(50, lines_max=5)
    found = of_agent(late, LogAsked(cursor=cursor))
    assert found.skipped
    assert found.lines[0] == "line 45"
    other = of_agent(ring, LogAsked(lines=1, cursor="ffffffff:2"))
    assert (other.lines, other.skipped) == (("line 2",), True)


def test_one_answer_is_bounded_and_the_next_goes_on() -> None:
    ring = Ring()
    for number in range(40):
        ring.add(b"%d" % number + b"x" * 3000)
    cursor, got = of_agent(filled(0), LogAsked()).cursor, []
    while True:
        found = of_agent(ring, LogAsked(lines=1000, cursor=cursor))
        if not found.lines:
            break
        assert sum(map(len, found.lines)) <= BYTES_MAX
        got += [int(line.rstrip("x")) for line in found.lines]
        cursor = found.cursor
    assert got == list(range(40))


def test_a_file_is_followed_by_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "postgresql.log"
    assert read(file, LogAsked()).lines == ()
    file.write_text("one\ntwo\nthr")
    first = read(file, LogAsked(lines=1))
    assert first.lines == ("two",)
    with file.open("a") as opened:
        opened.write("ee\nfour\nfive\n")
    second = read(file, LogAsked(lines=2, cursor=first.cursor))
    third = read(file, LogAsked(lines=2, cursor=second.cursor))
    assert (second.lines, third.lines) == (("three", "four"), ("five",))
    assert read(file, LogAsked(cursor=third.cursor)).lines == ()


def test_a_file_that_was_replaced_or_cut_is_begun_anew(tmp_path: Path) -> None:
    file = tmp_path / "postgresql.log"
    file.write_text("one\n" * 9)
    cursor = read(file, LogAsked()).cursor
    file.rename(tmp_path / "postgresql.log.1")
    file.write_text("new\n")
    anew = read(file, LogAsked(cursor=cursor))
    assert (anew.lines, anew.skipped) == (("new",), True)
    for odd in ("x", "1:", ":1", f"{file.stat().st_ino}:999"):
        assert read(file, LogAsked(cursor=odd)).lines == ("new",), odd


def test_of_a_long_file_only_the_end_is_read(tmp_path: Path) -> None:
    file = tmp_path / "postgresql.log"
    file.write_text("".join(f"{number:099d}\n" for number in range(10_000)))
    found = read(file, LogAsked(lines=1000))
    assert found.lines[-1] == f"{9999:099d}"
    assert sum(len(line) + 1 for line in found.lines) <= BYTES_MAX
    assert all(len(line) == 99 for line in found.lines)


def node_of(text: str = SMALLEST, **more: Any) -> Any:
    return SimpleNamespace(me=NodeId("n1"), settings=load_text(text), **more)


def test_a_level_is_for_a_while_and_then_the_files_again() -> None:
    async def wished() -> None:
        level = LogLevel(node_of())
        now = await level.set(LevelWish("debug", for_ms=20))
        assert (now.level, now.configured) == ("debug", "info")
        assert 0 < now.left_ms <= 20
        await until(lambda: not level.is_other)
        assert (await level.set(LevelWish(""))).level == "info"
        await level.set(LevelWish("error"))
        level.file_rules()
        assert (await level.set(LevelWish(""))).level == "info"
        with pytest.raises(OperatorError, match="loud is no level"):
            await level.set(LevelWish("loud"))

    try:
        asyncio.run(wished())
    finally:
        structlog.reset_defaults()
        logs.set_level("info")
        structlog.reset_defaults()


def event(kind: str, text: str) -> Event:
    return Event(at_ms=1, node=NodeId("n1"), kind=kind, text=text)


def test_reports_push_no_decision_out_and_followers_see_each(tmp_path: Path) -> None:
    """Of the events in memory only the newest report is kept; the file has none."""
    journal = Journal(tmp_path / "events.jsonl", kept_max=3)
    journal.record(event("term.begun", "a"))
    for text in ("1", "2", "3"):
        journal.replace(event(REPORT, text))
    journal.record(event("term.established", "b"))
    kept = [(entry.number, entry.event.text) for entry in journal.since()]
    assert kept == [(1, "a"), (4, "3"), (5, "b")]
    assert [entry.number for entry in journal.since(3)] == [4, 5]
    journal.close()
    assert REPORT not in (tmp_path / "events.jsonl").read_text()


def test_a_report_tells_where_queries_went_since_the_last_one() -> None:
    before = {"primary": {"write": 5}}
    now = {"replica": {"read": 7, "failed": 1}, "primary": {"write": 9, "doubt": 2}}
    assert routes_since(now, before) == {
        "routed_primary": "doubt=2 write=4",
        "routed_replica": "failed=1 read=7",
    }
    assert routes_since({"primary": {"write": 1}}, before) == {"routed_primary": "write=1"}
    assert routes_since({}, before) == {}


def test_a_report_counts_since_the_last_one_and_may_be_switched_off() -> None:
    assert (grown(7, 3), grown(2, 3)) == (4, 2)

    async def run() -> None:
        node = node_of(SMALLEST + "log: {report_interval: 0s}\n")
        report, told = ClusterReport(node), []
        report.tell = lambda: told.append(1)  # type: ignore[method-assign] # what is told is another test's
        running = asyncio.create_task(report.run())
        await asyncio.sleep(0.05)
        assert not told
        node.settings = load_text(SMALLEST + "log: {report_interval: 10ms}\n")
        report.poke()
        await until(lambda: len(told) >= 2)
        running.cancel()

    asyncio.run(run())
