"""Prove that a lost store is kept as it was, and that the one in its place knows nothing of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgherd.raft.types import Entry, Hard
from pgherd.store.aside import set_aside
from pgherd.store.base import StoreBusy
from pgherd.store.directory import StoreDirectory
from pgherd.store.sqlite import SqliteStore


def made(path: Path, term: int) -> None:
    store = SqliteStore(path)
    store.save(hard=Hard(term, 2, 0), entries=[Entry(term=term, index=1, data=b"said")])
    store.close()


def aside(path: Path) -> Path | None:
    directory = StoreDirectory(path)
    try:
        return set_aside(directory)
    finally:
        directory.close()


def test_it_is_kept_whole_and_its_place_is_free(tmp_path: Path) -> None:
    """Database and mark go together: a new store beside an old mark would seem to be behind it."""
    path = tmp_path / "raft"
    for number in (1, 2):
        made(path, number)
        (path / "events.jsonl").write_text("{}\n")
        kept = aside(path)
        assert kept == path / f"forgotten-{number}"
        assert (path / "events.jsonl").exists()
        store = SqliteStore(path)
        assert store.initial_state()[0] == Hard(0, 0, 0)
        assert store.sequence() == 0
        store.close()
        old = SqliteStore(kept)
        assert old.initial_state()[0].term == number
        old.close()


def test_nothing_is_made_of_nothing(tmp_path: Path) -> None:
    """An empty directory stays one; a mark alone tells of a store that was there, and is kept."""
    path = tmp_path / "raft"
    assert aside(path) is None
    made(path, 1)
    for file in path.glob("store.sqlite*"):
        file.unlink()
    kept = aside(path)
    assert kept is not None
    assert [file.name for file in kept.iterdir()] == ["acknowledged"]
    SqliteStore(path).close()


def test_only_its_holder_may(tmp_path: Path) -> None:
    """A daemon that runs has the directory; nobody moves its store away."""
    store = SqliteStore(tmp_path / "raft")
    with pytest.raises(StoreBusy):
        StoreDirectory(tmp_path / "raft")
    store.close()
