"""Timeline histories as PostgreSQL writes them, and files that are missing or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgherd.model.branch import FIRST, Fork
from pgherd.model.ids import Lsn, Timeline
from pgherd.postgres.branch import newest_begins, parse, read

WRITTEN = "1\t0/1D2F2A8\tno recovery target specified\n\n2\t1/3000148\tno recovery target\n"


def test_a_history_file_names_where_each_timeline_was_left() -> None:
    """The present one begins where its parent ends; comments and empty lines say nothing."""
    assert parse("# mine\n" + WRITTEN, Timeline(5)) == (
        FIRST,
        Fork(Timeline(2), Lsn(0x1D2F2A8)),
        Fork(Timeline(5), Lsn(0x1_0300_0148)),
    )


@pytest.mark.parametrize("text", ["", "# nothing", "1", "one 0/1", "1 nowhere"])
def test_a_damaged_file_says_nothing(text: str, tmp_path: Path) -> None:
    """No branch is known then, which is judged by nobody."""
    (tmp_path / "pg_wal").mkdir()
    (tmp_path / "pg_wal" / "00000002.history").write_text(text)
    assert read(tmp_path, Timeline(2)) == ()
    assert read(tmp_path, Timeline(3)) == ()


def test_the_first_timeline_has_no_file(tmp_path: Path) -> None:
    """initdb writes none."""
    assert read(tmp_path, Timeline(1)) == (FIRST,)
    (tmp_path / "pg_wal").mkdir()
    (tmp_path / "pg_wal" / "0000000A.history").write_text(WRITTEN)
    assert read(tmp_path, Timeline(10))[-1] == Fork(Timeline(10), Lsn(0x1_0300_0148))


def wal_of(path: Path, **files: str) -> Path:
    (path / "pg_wal").mkdir()
    (path / "pg_wal" / "000000090000000000000003").write_bytes(b"")
    for name, text in files.items():
        (path / "pg_wal" / f"{name}.history").write_text(text)
    return path


def test_the_newest_file_counts(tmp_path: Path) -> None:
    """Its last line says where the timeline before it was left; names are hexadecimal."""
    second = WRITTEN.splitlines()[0]
    assert newest_begins(wal_of(tmp_path, **{"00000009": second, "0000000A": WRITTEN})) == (
        0x1_0300_0148
    )


def test_without_a_file_it_is_the_first(tmp_path: Path) -> None:
    assert newest_begins(wal_of(tmp_path)) == 0


@pytest.mark.parametrize("text", ["", "1\n", "1 nonsense\n"])
def test_a_newest_file_that_is_not_whole_is_no_answer(tmp_path: Path, text: str) -> None:
    """The look fails as it does where the file cannot be read: nothing is taken for granted."""
    with pytest.raises(OSError, match="history file"):
        newest_begins(wal_of(tmp_path, **{"00000002": text}))


def test_no_directory_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        newest_begins(tmp_path)
