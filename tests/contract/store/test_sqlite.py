"""Prove that the store on disk believes only what it can vouch for, whatever happened to files.

Cuts and flipped bits in great number are in test_damage.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pgherd.model.errors import BugError, PgherdError
from pgherd.model.ids import NodeId, RaftId, Term
from pgherd.model.promises import Promises
from pgherd.raft.types import ConfState, Entry, Hard
from pgherd.store.base import Identity, StoreBusy, StoreDamaged, StoreFailed, StoreUnusable
from pgherd.store.sqlite import SqliteStore

CONF = ConfState(voters=(1, 2, 3))


def content(store: SqliteStore) -> tuple[object, ...]:
    """All that a reader can see."""
    log = store.entries(store.first_index(), store.last_index() + 1, None)
    return (store.initial_state(), log, store.snapshot(), store.promises(), store.identity())


def fill(store: SqliteStore, count: int = 12) -> list[tuple[object, ...]]:
    """Write transactions of every kind; the content after each, oldest first."""
    seen = [content(store)]

    def note() -> None:
        store.remember()
        seen.append(content(store))

    store.set_identity(Identity("cluster", NodeId("a"), RaftId(1), "abcd"))
    note()
    store.set_conf(CONF)
    note()
    for index in range(1, count + 1):
        entry = Entry(1, index, "normal", b"data %d " % index * 20)
        store.save(hard=Hard(1, 1, index - 1), entries=[entry])
        note()
    store.make_snapshot(count // 2, CONF, b"state" * 300)
    note()
    store.compact(count // 4)
    note()
    store.save(promises=Promises(promise=Term(4)), hard=Hard(2, 3, count))
    note()
    return seen


@pytest.fixture
def closed(tmp_path: Path) -> tuple[Path, list[tuple[object, ...]]]:
    """The files of a store that was closed: all of it is in the database file."""
    store = SqliteStore(tmp_path / "closed")
    seen = fill(store)
    store.close()
    return tmp_path / "closed", seen


def test_a_lost_database_is_noticed(closed: tuple[Path, list[object]]) -> None:
    """The mark remembers that there was one."""
    source, _ = closed
    (source / "store.sqlite").unlink()
    with pytest.raises(StoreDamaged, match="is missing, and it had acknowledged writes"):
        SqliteStore(source)


@pytest.mark.fault(52)
def test_an_older_copy_of_the_database_is_noticed(tmp_path: Path) -> None:
    """A restored database file beside a newer mark is behind it; the hint says what to do."""
    store = SqliteStore(tmp_path / "live")
    store.save(hard=Hard(1, 1, 0))
    store.close()
    old = (tmp_path / "live" / "store.sqlite").read_bytes()
    store = SqliteStore(tmp_path / "live")
    store.save(hard=Hard(2, 1, 0))
    store.save(hard=Hard(3, 2, 0))
    store.close()
    (tmp_path / "live" / "store.sqlite").write_bytes(old)
    with pytest.raises(
        StoreDamaged, match=r"2 acknowledged transactions are missing.*is re-admitted"
    ):
        SqliteStore(tmp_path / "live")


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("DELETE FROM log WHERE idx = 8", "log entry 8 is missing"),
        ("DELETE FROM log WHERE idx = 12", "does not end at 12"),
        ("DELETE FROM log", "does not end at 12"),
        ("UPDATE log SET record = x'00' WHERE idx = 5", "log entry 5 fails its CRC"),
        ("UPDATE log SET crc = crc + 1 WHERE idx = 5", "log entry 5 fails its CRC"),
        ("INSERT INTO log SELECT 13, record, crc FROM log WHERE idx = 12", "entry 13 fails"),
        ("DELETE FROM named WHERE name = 'state'", "term and vote"),
        ("DELETE FROM named WHERE name = 'promises'", "missing or does not belong"),
        ("UPDATE named SET record = x'80' WHERE name = 'promises'", "promises fails its CRC"),
        ("UPDATE named SET record = x'80' WHERE name = 'state'", "term and vote"),
        ("UPDATE named SET record = 'text' WHERE name = 'snapshot'", "snapshot fails its CRC"),
        ("DROP TABLE log", "no such table"),
        ("PRAGMA application_id = 1", "not a pgherd store"),
    ],
)
def test_a_store_that_somebody_edited_is_refused(
    closed: tuple[Path, list[object]], statement: str, reason: str
) -> None:
    """Records vouch for each other: none can be taken out, changed or added."""
    source, _ = closed
    database = sqlite3.connect(source / "store.sqlite")
    database.execute(statement)
    database.commit()
    database.close()
    with pytest.raises(StoreDamaged, match=reason):
        SqliteStore(source)


WRITER = """
import sys
from pgherd.raft.types import Entry, Hard
from pgherd.store.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
for index in range(1, 100_000):
    store.save(hard=Hard(1, 1, index - 1), entries=[Entry(1, index, "normal", b"x" * 50)])
    print(index, flush=True)
"""


def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    """SIGKILL in the middle of writing: every printed index is there, and the lock is free."""
    chance = random.Random(3)
    for turn in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / str(turn))], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(chance.randint(1, 400)):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        process.wait()
        printed = rest.rsplit(b"\n", 2)[-2] if rest.count(b"\n") else b"0"
        store = SqliteStore(tmp_path / str(turn))
        assert store.last_index() >= int(printed or b"0")
        assert store.initial_state()[0] == Hard(1, 1, store.last_index() - 1)
        store.close()


def test_a_live_process_is_named_in_the_refusal(tmp_path: Path) -> None:
    """A second daemon on the same directory is told the first one's process id."""
    code = WRITER.replace("range(1, 100_000)", "range(1, 2)") + "import time; time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "s")], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StoreBusy, match=f"in use by process {process.pid} "):
            SqliteStore(tmp_path / "s")
    finally:
        process.kill()
        process.communicate()


def test_a_child_that_has_not_started_yet_holds_no_closed_store(tmp_path: Path) -> None:
    """Between fork and exec a child has every handle; found by chaos, on a busy machine.

    A re-admitted node closes its store and opens another while it starts programs.
    """
    store = SqliteStore(tmp_path / "s")
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(read_end, 1)
        os._exit(0)
    try:
        store.close()
        SqliteStore(tmp_path / "s").close()
    finally:
        os.write(write_end, b"x")
        os.waitpid(child, 0)
        os.close(read_end)
        os.close(write_end)


FULL = """
import resource, signal, sys
from pgherd.raft.types import Entry, Hard
from pgherd.store.base import StoreFailed
from pgherd.store.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
index = 0
try:
    while True:
        store.save(hard=Hard(1, 1, index), entries=[Entry(1, index + 1, "normal", b"x" * 999)])
        index += 1
except StoreFailed:
    pass
try:
    store.save(hard=Hard(2, 1, index))
except StoreFailed:
    print(index)
"""


@pytest.mark.fault(43)
def test_a_write_error_of_the_system_stops_the_store(tmp_path: Path) -> None:
    """A file that may not grow: StoreFailed, no further write; what was acknowledged is there."""
    command = [sys.executable, "-c", FULL, str(tmp_path / "s")]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    store = SqliteStore(tmp_path / "s")
    assert store.last_index() in (int(done.stdout), int(done.stdout) + 1)
    assert store.initial_state()[0].term == 1
    store.save(hard=Hard(2, 1, store.last_index()))
    store.close()


@pytest.mark.fault(42)
def test_a_full_disk_is_told_apart_and_ends(tmp_path: Path) -> None:
    """StoreFailed.full; opened again when there is room the store goes on where it was."""
    store = SqliteStore(tmp_path / "s")
    fill(store)
    store.remember()
    before = content(store)
    assert store._database is not None
    pages = store._database.execute("PRAGMA page_count").fetchone()[0]
    store._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreFailed, match="free some space") as failed:
        store.save(entries=[Entry(2, 13, "normal", b"x" * 100_000)])
    assert failed.value.full
    store.remember()
    assert content(store) == before
    store.close()
    store = SqliteStore(tmp_path / "s")
    assert content(store) == before
    store.save(entries=[Entry(2, 13, "normal", b"x" * 100_000)])
    store.close()


def test_another_thread_writes_and_two_at_once_are_refused(tmp_path: Path) -> None:
    """The writer thread need not be the opener; overlapping writes are a bug that is told."""
    store = SqliteStore(tmp_path / "s")
    thread = threading.Thread(target=lambda: store.save(entries=[Entry(1, 1)]))
    thread.start()
    thread.join()
    store.remember()
    assert store.last_index() == 1
    store._writing = True
    with pytest.raises(BugError, match="two threads"):
        store.save(entries=[Entry(1, 2)])
    store._writing = False
    store.close()


def test_files_are_private_and_unusable_places_are_told(tmp_path: Path) -> None:
    """The directory is 0700; a file in its place or a newer format say what to do."""
    SqliteStore(tmp_path / "deep" / "s").close()
    assert (tmp_path / "deep" / "s").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnusable, match="cannot use"):
        SqliteStore(tmp_path / "file")
    database = sqlite3.connect(tmp_path / "deep" / "s" / "store.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreUnusable, match=r"format 99 \(upgrade pgherd"):
        SqliteStore(tmp_path / "deep" / "s")


def test_a_crash_while_the_store_was_made_is_no_damage(tmp_path: Path) -> None:
    """An empty or half-made database without a mark is simply made."""
    home = tmp_path / "s"
    home.mkdir()
    (home / "store.sqlite").write_bytes(b"")
    SqliteStore(home).close()
    shutil.rmtree(home)
    home.mkdir()
    database = sqlite3.connect(home / "store.sqlite")
    database.execute("PRAGMA journal_mode = WAL")
    database.close()
    SqliteStore(home).close()


def test_no_file_handle_is_left_behind(tmp_path: Path) -> None:
    """Opening, failing to open and closing give everything back."""
    SqliteStore(tmp_path / "s").close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        SqliteStore(tmp_path / "s").close()
    (tmp_path / "s" / "store.sqlite").write_bytes(b"noise" * 1000)
    for _ in range(3):
        with pytest.raises(PgherdError):
            SqliteStore(tmp_path / "s")
    assert len(os.listdir("/proc/self/fd")) == before
