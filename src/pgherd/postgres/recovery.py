"""How much WAL a server has to replay that was not shut down, and where it is: read from outside.

Owns finding the end of the WAL on disk (files may carry names of the future: they are recycled, and
only their page headers say so) and the segment that the startup process names in its title. Reads
files, so it belongs into a thread. What follows from it is `observe.recovering`'s.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

from pgherd.model.ids import Lsn
from pgherd.postgres import processes

PAGE_BYTES = 8192
"""XLOG_BLCKSZ as every packaged server has it; pages of another size would end the search early."""

PAGE_HEADER = struct.Struct("=HHIQ")
"""xlp_magic, xlp_info, xlp_tli, xlp_pageaddr (PostgreSQL's access/xlog_internal.h)."""

TITLE = re.compile(rb"startup\s+recovering ([0-9A-F]{24})")
SEGMENT = re.compile(r"[0-9A-F]{24}")

Address = Callable[[int, int], int]
"""The address that page `page` of segment `number` says it has; 0 where there is none."""


def segment_number(name: str, segment_bytes: int) -> int:
    """Which segment a WAL file's name means, counted from the beginning of all WAL."""
    per_id = (1 << 32) // segment_bytes
    return int(name[8:16], 16) * per_id + int(name[16:24], 16)


def last_page_end(address: Address, *, start: Lsn, segment_bytes: int) -> Lsn:
    """The end of the last page that belongs to unbroken WAL from a start on; the start if none."""
    number = start // segment_bytes
    while address(number, 0) == number * segment_bytes:
        number += 1
    number -= 1
    if number < start // segment_bytes:
        return start
    low, high = 0, segment_bytes // PAGE_BYTES
    while high - low > 1:
        middle = (low + high) // 2
        here = number * segment_bytes + middle * PAGE_BYTES
        low, high = (middle, high) if address(number, middle) == here else (low, middle)
    return Lsn(max(start, number * segment_bytes + high * PAGE_BYTES))


def wal_end(data_dir: Path, *, start: Lsn, segment_bytes: int) -> Lsn:
    """Where the WAL on disk ends, to a page, seen from a position in it."""
    place = data_dir / "pg_wal"
    names: dict[int, str] = {}
    for name in sorted(os.listdir(place)):  # of two timelines the later one is replayed
        if SEGMENT.fullmatch(name):
            names[segment_number(name, segment_bytes)] = name

    def address(number: int, page: int) -> int:
        name = names.get(number)
        if name is None:
            return 0
        with (place / name).open("rb") as file:
            file.seek(page * PAGE_BYTES)
            header = file.read(PAGE_HEADER.size)
        return int(PAGE_HEADER.unpack(header)[3]) if len(header) == PAGE_HEADER.size else 0

    return last_page_end(address, start=start, segment_bytes=segment_bytes)


def replayer(data_dir: Path) -> tuple[int, str] | None:
    """The process that replays WAL and the segment that it is at; None where none says so."""
    for pid in processes.of_directory(data_dir):
        try:
            title = TITLE.search(Path(f"/proc/{pid}/cmdline").read_bytes())
        except OSError:
            continue
        if title is not None:
            return pid, title[1].decode()
    return None


def replaying(data_dir: Path, *, segment_bytes: int) -> Lsn | None:
    """The beginning of the segment that is being replayed; None where no process says so."""
    found = replayer(data_dir)
    if found is None:
        return None
    return Lsn(segment_number(found[1], segment_bytes) * segment_bytes)
