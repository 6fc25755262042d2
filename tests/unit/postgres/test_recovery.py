"""Where WAL on disk ends, by page headers alone: recycled files lie about it in their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgherd.model.ids import Lsn
from pgherd.postgres.recovery import PAGE_BYTES, PAGE_HEADER, segment_number, wal_end

SEGMENT = 16 * PAGE_BYTES


def name_of(number: int, *, timeline: int = 1) -> str:
    per_id = (1 << 32) // SEGMENT
    return f"{timeline:08X}{number // per_id:08X}{number % per_id:08X}"


def write_segment(data: Path, number: int, *, pages: int, address: int | None = None) -> None:
    """A file named for a segment, whose first pages are of that address, the rest older."""
    start = number * SEGMENT if address is None else address
    body = bytearray(SEGMENT)
    for page in range(SEGMENT // PAGE_BYTES):
        here = start + page * PAGE_BYTES
        said = here if page < pages else here - 4 * SEGMENT
        PAGE_HEADER.pack_into(body, page * PAGE_BYTES, 0xD110, 0, 1, max(0, said))
    (data / "pg_wal" / name_of(number)).write_bytes(body)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "pg_wal").mkdir()
    return tmp_path


@pytest.mark.parametrize("pages", [1, 2, 7, 15, 16])
def test_the_end_lies_in_the_last_segment_of_its_own(data: Path, pages: int) -> None:
    """Behind it are recycled files with names of the future."""
    write_segment(data, 8, pages=16)
    write_segment(data, 9, pages=pages)
    write_segment(data, 10, pages=16, address=2 * SEGMENT)
    start = Lsn(8 * SEGMENT + 100)
    assert wal_end(data, start=start, segment_bytes=SEGMENT) == 9 * SEGMENT + pages * PAGE_BYTES


def test_what_is_missing_ends_it(data: Path) -> None:
    """A gap, or nothing at all: never before the start."""
    start = Lsn(8 * SEGMENT + 5 * PAGE_BYTES)
    assert wal_end(data, start=start, segment_bytes=SEGMENT) == start
    write_segment(data, 8, pages=2)
    assert wal_end(data, start=start, segment_bytes=SEGMENT) == start
    write_segment(data, 8, pages=16)
    write_segment(data, 10, pages=16)
    assert wal_end(data, start=start, segment_bytes=SEGMENT) == 9 * SEGMENT


def test_names_and_numbers() -> None:
    """As PostgreSQL counts them, for the usual size."""
    assert segment_number("000000020000000100000003", 16 << 20) == 256 + 3
    assert segment_number(name_of(70_000), SEGMENT) == 70_000
