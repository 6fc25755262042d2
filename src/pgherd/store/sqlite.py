"""The store on a real disk: SQLite in WAL mode with synchronous=FULL, one transaction per change.

Owns the directory: `store.sqlite` (log and named records), `acknowledged` (the mark), `lock`.
Theory of operation. A transaction is on disk when COMMIT returns; SQLite cuts a torn one by its
own WAL checksums. That same cut would also hide a flipped bit, which loses acknowledged
transactions behind it; so the newest acknowledged transaction's number is kept in the mark file.
At open: a database behind its mark, a broken CRC or chain, a malformed file is StoreDamaged. A
database ahead of its mark is fine, since the mark is written after the fsync and not synced.
Everything found is copied into the database file by a checkpoint before anything is believed:
pages that an earlier failed fsync left only in the kernel's cache become truly durable.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

from pgherd.store import codec
from pgherd.store.base import StoreBusy, StoreDamaged, StoreFailed, StoreUnusable
from pgherd.store.cached import CachedStore
from pgherd.store.codec import Mark, State
from pgherd.store.directory import NO_ROOM, StoreDirectory, sync_directory
from pgherd.store.image import Change, Image
from pgherd.store.recovery import read_image

FORMAT = 1
APPLICATION_ID = 0x70676864
BUSY_SECONDS_MAX = 2.0
CHECKPOINT_PAGES = 256
CACHE_KIB = 256

SCHEMA = (
    "CREATE TABLE log (idx INTEGER PRIMARY KEY, record BLOB NOT NULL, crc INTEGER NOT NULL)",
    "CREATE TABLE named (name TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID",
)


class SqliteStore(CachedStore):
    """A node's store in a directory of its own, made when it is not there."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._directory = StoreDirectory(Path(path))
        self._database: sqlite3.Connection | None = None
        try:
            image = self._recover()
        except BaseException:
            self.close()
            raise
        super().__init__(image, sequence=self._state.sequence)

    def _recover(self) -> Image:
        """Open the database and read everything back; whatever goes wrong gets its proper name."""
        try:
            self._database = self._open_database()
            self._state, image, self._crcs = read_image(self._database)
            self._check_mark()
        except sqlite3.Error as error:
            raise opening_failure(error, self._directory.database) from error
        except UnicodeDecodeError as error:  # SQLite's complaint quotes the damaged bytes
            raise StoreDamaged(f"{self._directory.database}: malformed schema") from error
        except OSError as error:
            raise failure(error) from error
        return image

    def _open_database(self) -> sqlite3.Connection:
        path = self._directory.database
        database = self._database = connect(path)
        configure(database)
        if not database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            if self._directory.read_mark().sequence:
                raise StoreDamaged(f"{path} is missing, and it had acknowledged writes")
            create(database)
            sync_directory(path.parent)
        check_format(database, path)
        verify(database)
        return database

    def _check_mark(self) -> None:
        mark = self._directory.read_mark()
        state = self._state
        if state.sequence < mark.sequence:
            missing = mark.sequence - state.sequence
            raise StoreDamaged(f"{missing} acknowledged transactions are missing at its end")
        same = (state.last_index, state.last_crc) == (mark.last_index, mark.last_crc)
        if state.sequence == mark.sequence and mark.sequence and not same:
            raise StoreDamaged("the log does not end as it did when it was acknowledged")

    def _write(self, change: Change) -> None:
        assert self._database is not None
        try:
            self._database.execute("BEGIN IMMEDIATE")
            state = self._write_rows(self._database, change)
            self._database.execute("COMMIT")
            mark = Mark(state.sequence, state.last_index, state.last_crc)
            self._directory.write_mark(mark)
        except (sqlite3.Error, OSError) as error:
            raise failure(error) from error
        self._state = state
        self._durable.append(change)

    def _write_rows(self, database: sqlite3.Connection, change: Change) -> State:
        """Put the change's rows; the state record comes last and vouches for them."""
        others = dict(self._state.others)
        for name, value in (
            ("identity", change.identity),
            ("promises", change.promises),
            ("snapshot", change.snapshot or change.made),
        ):
            if value is not None:
                data = codec.encode(value)
                others[name] = codec.named(name, data)
                put(database, name, data)
        base_crc = self._write_log(database, change)
        after = self._written
        state = State(
            sequence=self._state.sequence + 1,
            hard=after.hard,
            conf=after.conf,
            base_index=after.base_index,
            base_term=after.base_term,
            base_crc=base_crc,
            last_index=after.last_index,
            last_crc=self._crcs[-1] if self._crcs else base_crc,
            others=others,
        )
        data = codec.encode(state)
        put(database, "state", codec.named("state", data).to_bytes(4, "big") + data)
        return state

    def _write_log(self, database: sqlite3.Connection, change: Change) -> int:
        """Put and delete log rows, keep their CRCs in memory; return the CRC at the base."""
        base, base_crc, crcs = self._state.base_index, self._state.base_crc, self._crcs
        if change.snapshot is not None:
            database.execute("DELETE FROM log")
            crcs.clear()
            base = change.snapshot.index
            base_crc = codec.chain(base, change.snapshot.term, b"")
        if change.entries:
            first = change.entries[0].index
            if first - base - 1 < len(crcs):
                del crcs[first - base - 1 :]
                database.execute("DELETE FROM log WHERE idx >= ?", (first,))
            rows = []
            for entry in change.entries:
                data = codec.encode_entry(entry)
                crcs.append(codec.chain(entry.index, crcs[-1] if crcs else base_crc, data))
                rows.append((entry.index, data, crcs[-1]))
            database.executemany("INSERT INTO log (idx, record, crc) VALUES (?, ?, ?)", rows)
        if change.compact_to is not None:
            database.execute("DELETE FROM log WHERE idx <= ?", (change.compact_to,))
            base_crc = crcs[change.compact_to - base - 1]
            del crcs[: change.compact_to - base]
        return base_crc

    def close(self) -> None:
        """Close the database and release the directory."""
        self._closed = True
        database, self._database = self._database, None
        if database is not None:
            try:
                database.close()
            except sqlite3.Error:
                pass  # what matters was durable before; there is nobody to tell
        self._directory.close()


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection for one thread at a time, with transactions in our own hands."""
    return sqlite3.connect(
        path, timeout=BUSY_SECONDS_MAX, isolation_level=None, check_same_thread=False
    )


def configure(database: sqlite3.Connection) -> None:
    """Set what durability and leanness rest on, and refuse to go on without it."""
    mode = database.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreUnusable(f"SQLite offers journal mode {mode} here, not wal", "use a local disk")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    database.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA cell_size_check = ON")
    if sys.platform == "darwin":
        database.execute("PRAGMA fullfsync = ON")


def create(database: sqlite3.Connection) -> None:
    """Make the empty store in one transaction."""
    database.execute("BEGIN EXCLUSIVE")
    for statement in SCHEMA:
        database.execute(statement)
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {FORMAT}")
    data = codec.encode(State(0, Image().hard, Image().conf))
    put(database, "state", codec.named("state", data).to_bytes(4, "big") + data)
    database.execute("COMMIT")


def check_format(database: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that is not ours or that a newer pgherd made."""
    if database.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreDamaged(f"{path} is not a pgherd store, or its header is damaged")
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version > FORMAT:
        raise StoreUnusable(f"{path} has format {version}", "upgrade pgherd on this node")


def verify(database: sqlite3.Connection) -> None:
    """Make everything found durable in the database file, then check the file's structure."""
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreDamaged(f"SQLite says: {' '.join(found.split())}")


def put(database: sqlite3.Connection, name: str, data: bytes) -> None:
    """Replace a named record."""
    database.execute("INSERT OR REPLACE INTO named (name, record) VALUES (?, ?)", (name, data))


def opening_failure(error: sqlite3.Error, path: Path) -> Exception:
    """Say why a database cannot be opened; what is not the disk's or the operator's is damage."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        hint = "check owner, permissions and the mount of this directory"
        return StoreUnusable(f"cannot open {path}: {error}", hint)
    if code & 0xFF == sqlite3.SQLITE_BUSY:
        return StoreBusy(f"{path} is locked", "close other programs that have this file open")
    transient = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM)
    if code & 0xFF in transient and code != sqlite3.SQLITE_IOERR_SHORT_READ:
        return failure(error)
    return StoreDamaged(f"{path}: {error}")


def failure(error: sqlite3.Error | OSError) -> StoreFailed:
    """Say what a failed write means."""
    code = getattr(error, "sqlite_errorcode", 0)
    full = code & 0xFF == sqlite3.SQLITE_FULL or getattr(error, "errno", 0) in NO_ROOM
    return StoreFailed(str(error), full=full)
