"""Timeline histories as PostgreSQL writes them, and files that are missing or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgherd.model.branch import FIRST, Fork
from pgherd.model.ids import Lsn, Timeline
from pgherd.postgres.branch import parse, read

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
