"""Both twins of the store behind one handle that can open, crash and open again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pgherd.store.memory import MemoryDisk, MemoryStore
from pgherd.store.sqlite import SqliteStore


class Memory:
    """The twin in memory."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.store: MemoryStore | None = None

    def open(self) -> MemoryStore:
        self.store = MemoryStore(self.disk)
        return self.store

    def crash(self) -> None:
        assert self.store is not None
        self.store.crash()

    def fail_next(self) -> None:
        self.disk.fail_next("error")


class Sqlite:
    """The twin on disk. A crash is a copy of the files while they are open."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "store-0"
        self.store: SqliteStore | None = None
        self.crashes = 0

    def open(self) -> SqliteStore:
        self.store = SqliteStore(self.directory)
        return self.store

    def crash(self) -> None:
        assert self.store is not None
        self.crashes += 1
        left = self.directory.with_name(f"store-{self.crashes}")
        shutil.copytree(self.directory, left)
        self.store.close()
        self.directory = left

    def fail_next(self) -> None:
        assert self.store is not None
        assert self.store._database is not None
        self.store._database.execute("DROP TABLE named")


@pytest.fixture(params=["memory", "sqlite"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Memory | Sqlite:
    return Memory() if request.param == "memory" else Sqlite(tmp_path)
