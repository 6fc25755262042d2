"""Connection strings: ours and those that somebody else wrote, read as libpq reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from pgherd.model.errors import PostgresError
from pgherd.postgres import conninfo

values = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(st.dictionaries(st.sampled_from(["host", "user", "application_name", "passfile"]), values))
def test_what_is_written_is_read_alike_by_us_and_by_libpq(pairs):
    """Quotes, backslashes, spaces, line ends."""
    text = conninfo.write(pairs)
    assert conninfo.read(text) == pairs == conninfo_to_dict(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host=a  port = 5432",
        "host='a b'\tuser=it\\'s",
        "host = '' port=1",
        "application_name='x\\\\y\\'z' host=h",
    ],
)
def test_foreign_strings_are_read_as_libpq_does(text):
    """Spaces around =, quoted and escaped values."""
    assert conninfo.read(text) == conninfo_to_dict(text)


def test_a_uri_gives_host_port_and_parameters():
    """Nobody forbids an operator to write one."""
    pairs = conninfo.read("postgresql://u@db.example:5433/x?application_name=n2")
    assert (pairs["host"], pairs["port"], pairs["application_name"]) == ("db.example", "5433", "n2")


@pytest.mark.parametrize("text", ["host", "host='a", "host='a'b=c", "=x"])
def test_what_libpq_refuses_is_refused(text):
    """With the place."""
    with pytest.raises(PostgresError, match="character"):
        conninfo.read(text)
