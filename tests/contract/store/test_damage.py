"""Prove that no cut and no flipped bit in the store's files is ever taken for acknowledged content.

Every case is a whole start on real files, by the code that starts a node: files are laid out in
memory (tmpfs), so that a fsync costs nothing, and nothing else is spared.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgherd.model.ids import NodeId, RaftId, Term
from pgherd.model.promises import Promises
from pgherd.raft.types import ConfState, Entry, Hard
from pgherd.store import codec
from pgherd.store.base import Identity, StoreDamaged, StoreUnusable
from pgherd.store.codec import Mark
from pgherd.store.sqlite import SqliteStore

Content = tuple[object, ...]
Files = dict[str, bytes]

CONF = ConfState(voters=(1, 2, 3))
DATABASE, WAL, MARK = "store.sqlite", "store.sqlite-wal", "acknowledged"
CUTS = 65_536
FLIPS = int(os.environ.get("PGHERD_SOAK") or (200_000 if os.environ.get("PGHERD_FULL") else 20_000))
SOME = 97
"""One store in so many is written to after it was opened, to show that it goes on."""


def content(store: SqliteStore) -> Content:
    """All that a reader can see."""
    log = store.entries(store.first_index(), store.last_index() + 1, None)
    return (store.initial_state(), log, store.snapshot(), store.promises(), store.identity())


class Written:
    """A store with transactions of every kind: its content after each, and its files."""

    def __init__(self, place: Path, *, wal_bytes_min: int) -> None:
        self.store = SqliteStore(place)
        self.seen: list[Content] = [content(self.store)]
        self.store.set_identity(Identity("cluster", NodeId("a"), RaftId(1), "abcd"))
        self._note()
        self.store.set_conf(CONF)
        self._note()
        last = 0
        while last < 6 or (place / WAL).stat().st_size < wal_bytes_min:
            last += 1
            entry = Entry(1, last, "normal", b"data %d " % last * 20)
            self.store.save(hard=Hard(1, 1, last - 1), entries=[entry])
            self._note()
        self.store.make_snapshot(last // 2, CONF, b"state" * 300)
        self._note()
        self.store.compact(last // 4)
        self._note()
        self.store.save(promises=Promises(promise=Term(4)), hard=Hard(2, 3, last))
        self._note()
        self.crashed = files_of(place)
        self.store.close()
        self.closed = files_of(place)

    def _note(self) -> None:
        self.store.remember()
        self.seen.append(content(self.store))


def files_of(place: Path) -> Files:
    """What a start reads; the lock and the index of the WAL are made anew by it."""
    found = {name: place / name for name in (DATABASE, WAL, MARK)}
    return {name: path.read_bytes() for name, path in found.items() if path.exists()}


class Desk:
    """A directory in which stores are laid out and opened, over and over."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.turns = 0

    def opened(self, files: Files) -> Content | None:
        """What a start finds in these files; None when it refuses them."""
        for name in (WAL, f"{DATABASE}-shm"):
            if name not in files and os.path.exists(path := f"{self.place}/{name}"):
                os.unlink(path)
        for name, data in files.items():
            handle = os.open(
                f"{self.place}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
            )
            os.write(handle, data)
            os.close(handle)
        try:
            store = SqliteStore(self.place)
        except (StoreDamaged, StoreUnusable):
            return None
        held = content(store)
        self.turns += 1
        if self.turns % SOME == 0:
            store.save(hard=Hard(9, 1, store.last_index()))
        store.close()
        return held


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A desk in memory where the system has such a place."""
    memory = Path("/dev/shm")
    base = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    place = Path(tempfile.mkdtemp(prefix="pgherd-store-", dir=base))
    try:
        yield Desk(place)
    finally:
        shutil.rmtree(place)


def commits_within(wal: bytes, size: int) -> int:
    """How many transactions lie whole in the first bytes of a WAL, by its format's own words."""
    page_bytes = struct.unpack(">I", wal[8:12])[0]
    found, at = 0, 32
    while at + 24 + page_bytes <= size:
        found += struct.unpack(">I", wal[at + 4 : at + 8])[0] != 0
        at += 24 + page_bytes
    return found


@pytest.mark.timeout(280)
@pytest.mark.fault(47)
def test_every_cut_of_the_log_is_whole_transactions_or_refused(
    desk: Desk, tmp_path: Path, count: Callable[..., None]
) -> None:
    """At each of 65,536 offsets: what was acknowledged is there, or the store is refused.

    The mark names a transaction in the middle, as it does when it was written lazily: a shorter log
    must be refused, a longer one must hold exactly the transactions that lie whole in it.
    """
    written = Written(tmp_path / "live", wal_bytes_min=CUTS)
    wal, seen = written.crashed[WAL], written.seen
    assert len(wal) > CUTS
    assert commits_within(wal, len(wal)) == len(seen) - 1
    middle = len(seen) // 2
    mark = marked(desk, written, middle)
    outcomes = set()
    for size in range(CUTS):
        held = desk.opened({DATABASE: written.crashed[DATABASE], WAL: wal[:size], MARK: mark})
        whole = commits_within(wal, size)
        expected = seen[whole] if whole >= middle else None
        assert held == expected, f"a log cut to {size} bytes was believed, or refused for nothing"
        outcomes.add(whole if held is not None else -1)
    assert len(outcomes) > 3, "both refused and believed, at several lengths"
    count(store_cuts=CUTS)


def marked(desk: Desk, written: Written, transaction: int) -> bytes:
    """The mark file as it is after this transaction."""
    ends = [store_end(one) for one in written.seen]
    whole = codec.decode_mark(written.crashed[MARK])
    assert whole.sequence == len(written.seen) - 1
    last_index, last_crc = ends[transaction]
    slot = codec.encode_mark(Mark(transaction, last_index, last_crc))
    return slot + bytes(codec.MARK_SLOT_BYTES)


def store_end(one: Content) -> tuple[int, int]:
    """The end of the log and its CRC: of a log that begins at index 1, from its entries alone."""
    log: list[Entry] = one[1]  # type: ignore[assignment] # as `content` puts it
    crc = 0
    for entry in log:
        crc = codec.chain(entry.index, crc, codec.encode_entry(entry))
    return (log[-1].index if log else 0), crc


@pytest.mark.timeout(200 + FLIPS // 50)
@pytest.mark.fault(48, 49, 50)
def test_no_flipped_bit_is_believed(desk: Desk, tmp_path: Path, count: Callable[..., None]) -> None:
    """A bit in any file, of a crashed or a closed store: refused, or every byte is there."""
    written = Written(tmp_path / "live", wal_bytes_min=CUTS)
    kinds = [
        (state, name)
        for state, files in (("crashed", written.crashed), ("closed", written.closed))
        for name in files
    ]
    chance = random.Random("flips")
    refused = dict.fromkeys(kinds, 0)
    for turn in range(FLIPS):
        state, name = kinds[turn % len(kinds)]
        files: Files = getattr(written, state)
        data = files[name]
        at, bit = chance.randrange(len(data)), chance.randrange(8)
        flipped = data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]
        held = desk.opened({**files, name: flipped})
        assert held in (None, written.seen[-1]), f"bit {bit} of byte {at} of {state} {name}"
        refused[state, name] += held is None
    noticed = [("crashed", WAL), ("closed", DATABASE)]
    assert all(refused[kind] for kind in noticed), refused
    count(store_flips=FLIPS)


def test_a_database_that_lost_its_end_is_noticed(desk: Desk, tmp_path: Path) -> None:
    """The database file cut anywhere, with its WAL or without: refused, or all is there."""
    written = Written(tmp_path / "live", wal_bytes_min=0)
    chance = random.Random(5)
    for files in (written.crashed, written.closed):
        data = files[DATABASE]
        for size in [0, *(chance.randrange(len(data)) for _ in range(500))]:
            held = desk.opened({**files, DATABASE: data[:size]})
            assert held in (None, written.seen[-1]), f"cut to {size} bytes"
    assert desk.opened({**written.closed, DATABASE: b""}) is None
