"""Where the newest timeline of a data directory begins, by its history files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgherd.postgres.histories import newest_begins

SECOND = "1\t0/1741570\tno recovery target specified\n"
TENTH = f"{SECOND}# a remark\n\n9\t1/40A8\tno recovery target specified\n"


def wal_of(path: Path, **files: str) -> Path:
    (path / "pg_wal").mkdir()
    (path / "pg_wal" / "000000090000000000000003").write_bytes(b"")
    for name, text in files.items():
        (path / "pg_wal" / f"{name}.history").write_text(text)
    return path


def test_the_newest_file_counts(tmp_path: Path) -> None:
    """Its last line says where the timeline before it was left; names are hexadecimal."""
    assert newest_begins(wal_of(tmp_path, **{"00000002": SECOND, "0000000A": TENTH})) == (
        0x1_0000_40A8
    )


def test_the_first_timeline_has_no_file(tmp_path: Path) -> None:
    assert newest_begins(wal_of(tmp_path)) == 0


@pytest.mark.parametrize("text", ["", "1\n", "1 nonsense\n"])
def test_a_file_that_is_not_whole_is_no_answer(tmp_path: Path, text: str) -> None:
    """The look fails as it does where the file cannot be read: nothing is taken for granted."""
    with pytest.raises(OSError, match="history file"):
        newest_begins(wal_of(tmp_path, **{"00000002": text}))


def test_no_directory_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        newest_begins(tmp_path)
