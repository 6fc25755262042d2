"""The configuration of a server that somebody else made: read as PostgreSQL does, carried over."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgherd.model.errors import OperatorError
from pgherd.postgres import foreignconf


@pytest.mark.parametrize(
    ("line", "pair"),
    [
        ("port = 5433", ("port", "5433")),
        ("  Max_Connections=200   # many", ("max_connections", "200")),
        ("log_line_prefix '%m [%p] # '", ("log_line_prefix", "%m [%p] # ")),
        ("archive_command = 'cp %p ''/a b''/%f'", ("archive_command", "cp %p '/a b'/%f")),
        ("search_path = ''", ("search_path", "")),
        ("pg_stat_statements.max = 9", ("pg_stat_statements.max", "9")),
        ("# port = 5433", None),
        ("", None),
    ],
)
def test_a_line_is_read_as_postgresql_reads_it(line: str, pair: tuple[str, str] | None) -> None:
    """Names in any case, an optional sign, quotes with quotes in them, comments."""
    assert foreignconf.pair_of(line) == pair


def test_includes_are_put_in_and_places_taken_out(tmp_path: Path) -> None:
    """What is included comes in its place and order; our own file, and where files are, do not."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "20.conf").write_text("work_mem = 2MB\n")
    (tmp_path / "conf.d" / "10.conf").write_text("work_mem = 1MB\n")
    (tmp_path / "conf.d" / "30.off").write_text("work_mem = 3MB\n")
    (tmp_path / "more.conf").write_text("jit = off\n")
    main = tmp_path / "postgresql.conf"
    main.write_text(
        "work_mem = 9MB\ninclude_dir = 'conf.d'\ninclude 'more.conf'\n"
        "include_if_exists 'none.conf'\ndata_directory = '/x'\nhba_file = '/y'\n"
        "include '/data/pgherd.conf'\n"
    )
    text = foreignconf.at_home(foreignconf.flattened(main))
    assert foreignconf.settings_of(text) == {
        "work_mem": "2MB",
        "jit": "off",
        "include": "/data/pgherd.conf",
    }
    main.write_text("include 'postgresql.conf'\n")
    with pytest.raises(OperatorError, match="includes itself"):
        foreignconf.flattened(main)


def test_what_our_defaults_would_overrule_is_carried_over() -> None:
    """And nothing that pgherd decides: the weak values of what an operator may choose stay out."""
    said = {
        "wal_keep_size": "1GB",
        "max_connections": "300",
        "wal_level": "logical",
        "synchronous_commit": "off",
        "fsync": "off",
        "work_mem": "1MB",
    }
    assert foreignconf.carried(said) == {
        "max_connections": "300",
        "wal_keep_size": "1GB",
        "wal_level": "logical",
    }
    assert "wal_level" not in foreignconf.carried({"wal_level": "minimal"})


def test_lines_of_pg_hba_are_carried_over_or_refused() -> None:
    """Comments and our own block go; what names other files cannot be taken along."""
    text = foreignconf.with_block(
        "# old\nlocal  all  all  peer   # own\n\nhost all all 10.0.0.0/8 md5\n", ["ours a b c"]
    )
    file = Path("/etc/pg_hba.conf")
    assert foreignconf.hba_lines(text, file=file) == [
        "local all all peer",
        "host all all 10.0.0.0/8 md5",
    ]
    for line in ("host all @users all md5", "include_dir /x/y z w", "local all"):
        with pytest.raises(OperatorError, match="cannot carry over"):
            foreignconf.hba_lines(line, file=file)


def test_a_block_is_put_in_once() -> None:
    """A second time it replaces the first one, and what stood there is as it was."""
    once = foreignconf.with_block("a\nb\n", ["x"])
    assert foreignconf.with_block(once, ["y", "z"]) == (
        f"{foreignconf.BEGIN}\ny\nz\n{foreignconf.END}\na\nb\n"
    )
    assert foreignconf.outside_of_block(once) == "a\nb\n"
    assert foreignconf.outside_of_block("a\n") == "a\n"
