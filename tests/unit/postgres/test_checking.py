"""What pg_settings has against a value, in words that name range and unit."""

from __future__ import annotations

import pytest

from pgherd.model.pgconfig import MATCHED, Pending
from pgherd.postgres import pending
from pgherd.postgres.checking import Known, amount, problems, read

ROWS = [
    ("work_mem", "integer", "user", "kB", "64", "2147483647", "", "4MB"),
    ("shared_buffers", "integer", "postmaster", "8kB", "16", "1073741823", "", "128MB"),
    ("statement_timeout", "integer", "user", "ms", "0", "2147483647", "", "0"),
    ("random_page_cost", "real", "user", "", "0", "1.79769e+308", "", "4"),
    ("wal_compression", "enum", "superuser", "", "", "", "pglz,lz4,on,off", "off"),
    ("jit", "bool", "user", "", "", "", "", "on"),
    ("block_size", "integer", "internal", "", "8192", "8192", "", "8192"),
    ("max_connections", "integer", "postmaster", "", "1", "262143", "", "100"),
    ("max_wal_senders", "integer", "postmaster", "", "0", "262143", "", "12"),
    ("TimeZone", "string", "user", "", "", "", "", "UTC"),
]
KNOWN = read(ROWS)


def told(**wanted: str) -> str:
    return "; ".join(problems(wanted, KNOWN, {"max_wal_senders": "12"}))


def test_an_archive_of_the_nodes_files_is_not_overruled() -> None:
    """The section archive and an archive_command do not go together."""
    known = {**KNOWN, "archive_command": Known("archive_command", "string", "sighup")}
    own = {"archive_command": "exec wal-push"}
    assert "section archive" in "; ".join(problems({"archive_command": "cp"}, known, own))
    assert problems({"archive_command": "cp"}, known, {}) == []


@pytest.mark.parametrize(
    "wanted",
    [
        {"work_mem": "64"},
        {"work_mem": "8MB"},
        {"shared_buffers": "1GB"},
        {"statement_timeout": "1.5min"},
        {"random_page_cost": "1.1"},
        {"wal_compression": "LZ4"},
        {"jit": "off"},
        {"timezone": "anything; PostgreSQL's program looks at it"},
        {"max_wal_senders": "12"},
        {"pg_stat_statements.max": "not known here"},
    ],
)
def test_good_values_are_taken(wanted: dict[str, str]) -> None:
    assert told(**wanted) == ""


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("work_mem", "63", "out of range; it may be 64 to 2147483647, in units of kB"),
        ("work_mem", "63kB", "out of range"),
        ("work_mem", "8mb", "with B, kB, MB, GB or TB"),
        ("work_mem", "8s", "is not a number of bytes"),
        ("shared_buffers", "8kB", "16 to 1073741823, in units of 8kB"),
        ("statement_timeout", "1MB", "us, ms, s, min, h or d"),
        ("random_page_cost", "-1", "out of range"),
        ("wal_compression", "zip", "write one of pglz, lz4, on, off"),
        ("jit", "o", "write on or off"),
        ("block_size", "8192", "cannot be set"),
        ("max_connections", "0x64", "whole number from 1 to 262143"),
        ("max_wal_senders", "3", "needs at least 12"),
        ("wrok_mem", "8MB", "no such parameter; work_mem?"),
    ],
)
def test_bad_values_are_refused_in_words(name: str, value: str, words: str) -> None:
    assert words in told(**{name: value})


def test_units_are_postgresqls() -> None:
    assert (amount("1GB", "8kB"), amount("90 s", "min"), amount("7", "ms")) == (131072, 1.5, 7)
    assert amount("1GB", "ms") is amount("x", "") is amount("1e", "") is None


def test_what_waits_has_both_values() -> None:
    """Also what the command line set, which PostgreSQL does not report; a promotion's own not."""
    rows = [
        *((name, "8", "8", name == "max_connections") for name in MATCHED),
        ("hot_standby", "off", "off", True),
        ("shared_preload_libraries", "x", "x", True),
        ("wal_level", "replica", "replica", False),
    ]
    found = pending.read(rows, {"max_connections": "9", "wal_level": "logical"})
    assert found.matched == (8,) * len(MATCHED)
    assert found.pending == (
        Pending("max_connections", "8", "9"),
        Pending("shared_preload_libraries", "x", "PostgreSQL's default"),
        Pending("wal_level", "replica", "logical"),
    )
