"""The journal keeps the newest events, writes all of them, rotates, and never waits for a disk."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from pgherd.model.event import Event
from pgherd.model.ids import NodeId, Term
from pgherd.telemetry.journal import Journal, read_file
from pgherd.telemetry.writer import LineWriter, RotatingFile, Stream


def event(number: int) -> Event:
    return Event(
        at_ms=number, node=NodeId("n1"), kind="leader.elected", text=f"event {number}", term=Term(1)
    )


def test_memory_is_bounded_and_numbers_go_on() -> None:
    journal = Journal(kept_max=3)
    numbers = [journal.record(event(at)) for at in range(5)]
    assert numbers == [1, 2, 3, 4, 5]
    assert [entry.number for entry in journal.since()] == [3, 4, 5]
    assert [entry.number for entry in journal.since(4)] == [5]
    assert [entry.number for entry in journal.since(0, limit=2)] == [4, 5]
    assert journal.since(0, limit=0) == ()


def test_what_was_recorded_is_read_back_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for at in range(10):
        journal.record(event(at))
    journal.close()
    kept = tuple(entry.event for entry in journal.since())
    assert read_file(path) == kept
    assert [one.text for one in kept] == [f"event {at}" for at in range(10)]
    assert len({one.id for one in kept}) == 10
    with path.open("ab") as file:
        file.write(b'{"at_ms": 3, "no')
    assert len(read_file(path)) == 10


def test_files_rotate_by_size_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = RotatingFile(path, bytes_max=100, kept=2)
    for letter in b"abcd":
        file.write(bytes([letter]) * 80)
    file.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert [(tmp_path / name).read_bytes()[:1] for name in ("log", "log.1", "log.2")] == [
        b"d",
        b"c",
        b"b",
    ]


def test_a_file_goes_on_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        file = RotatingFile(tmp_path / "log", bytes_max=100, kept=1)
        file.write(b"x" * 60)
        file.close()
    assert (tmp_path / "log.1").stat().st_size == 60


class Stuck:
    """A disk that takes nothing until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.reached = threading.Event()
        self.lines = 0

    def write(self, chunk: bytes) -> None:
        self.reached.set()
        self.go.wait()
        self.lines += chunk.count(b"\n")

    def close(self) -> None: ...


@pytest.mark.fault(89)
def test_a_stuck_disk_costs_lines_and_counts_them() -> None:
    disk = Stuck()
    writer = LineWriter(disk, name="test", lines_max=10)
    writer.put(b"first")
    assert disk.reached.wait(10)
    for _ in range(25):
        writer.put(b"more")
    assert writer.dropped == 15
    assert not writer.close(seconds_max=0.01)
    disk.go.set()
    assert writer.close(seconds_max=10)
    assert disk.lines == 11


def test_a_disk_that_fails_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "absent" / "journal.jsonl")
    journal.record(event(1))
    journal.close()
    assert journal.dropped == 1
    assert len(journal.since()) == 1


def test_a_pipe_takes_all_of_a_long_chunk() -> None:
    read_end, write_end = os.pipe()
    writer = LineWriter(Stream(write_end), name="test")
    line = b"x" * 300_000
    writer.put(line)
    got = b""
    while len(got) < len(line) + 1:
        got += os.read(read_end, 1 << 16)
    assert got == line + b"\n"
    assert writer.close(seconds_max=10)
    os.close(read_end)
    os.close(write_end)


def test_followers_wake_at_the_next_event() -> None:
    async def follow() -> None:
        journal = Journal()
        waiting = asyncio.create_task(journal.wait_past(0))
        await asyncio.sleep(0)
        assert not waiting.done()
        journal.record(event(1))
        await asyncio.wait_for(waiting, 10)
        await asyncio.wait_for(journal.wait_past(0), 10)

    asyncio.run(follow())


def test_a_restart_recalls_the_newest_and_keeps_their_ids(tmp_path: Path) -> None:
    """What happened before is asked for just then; only the file's end is read."""
    path = tmp_path / "journal.jsonl"
    first = Journal(path)
    for at in range(5):
        first.record(replace(event(at), index=10 + at, id=f"c{10 + at}.0"))
    own = first.since(first.record(event(9)) - 1)[0].event.id
    first.close()
    again = Journal(path)
    assert [entry.event.id for entry in again.since(4)] == ["c14.0", own]
    assert (again.index, again.run != first.run) == (14, True)
    assert again.number_after(f"12.{first.run}.3") == 3
    assert again.number_after(f"12.{again.run}.1") == 1
    again.repeat(replace(event(1), id="n2-aa-1"))
    again.close()
    assert [one.id for one in read_file(path)][-1] == own
    for at in range(3000):
        first._writer = None
        first.record(event(at))
    assert first.missed(0) == first.newest - 2000
    assert [entry.number for entry in first.following(2990, limit=3)] == [2991, 2992, 2993]
    assert first.number_after("1.ffffffff.1") == -1


def test_what_is_told_again_and_again_neither_repeats_nor_loses_what_is_beside_it() -> None:
    """A report in its own place leaves a number out; a follower gets each of the others once."""
    journal = Journal(kept_max=100)
    for at in range(10):
        journal.record(event(at))
        for _ in range(7):
            journal.replace(replace(event(at), kind="cluster.report"))
    reports = [one for one in journal.since() if one.event.kind == "cluster.report"]
    told = [one for one in journal.since() if one.event.kind != "cluster.report"]
    assert (len(reports), len(told)) == (1, 10)
    assert reports[0].event.id
    assert journal.missed(told[0].number) == 0, "nothing was forgotten"
    found, seen = journal.following(told[4].number, limit=2), []
    while found:
        seen += [one.event.text for one in found if one.event.kind != "cluster.report"]
        found = journal.following(found[-1].number, limit=2)
    assert seen == [f"event {at}" for at in range(5, 10)]


def test_a_report_hides_nothing_from_who_comes_from_another_node() -> None:
    """By the index of the ledger, whatever is told beside it without one."""
    journal = Journal()
    for at in range(5):
        journal.record(replace(event(at), index=10 + at))
    journal.replace(replace(event(9), kind="cluster.report"))
    after = journal.number_after("12.another.77")
    texts = [one.event.text for one in journal.following(after, limit=10)]
    assert texts[:2] == ["event 3", "event 4"]


def test_what_memory_had_no_room_for_is_counted() -> None:
    journal = Journal(kept_max=3)
    for at in range(5):
        journal.record(event(at))
    assert [journal.missed(number) for number in (0, 1, 2, 3)] == [2, 1, 0, 0]
    assert [one.number for one in journal.following(0, limit=9)] == [3, 4, 5]
