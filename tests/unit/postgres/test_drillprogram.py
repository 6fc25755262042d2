"""What the probe writes of a drill come to, without a server."""

from __future__ import annotations

import pytest

from pgherd.postgres.conninfo import read
from pgherd.postgres.drilling import conninfo
from pgherd.postgres.drillprogram import Tally


def test_only_gaps_after_the_stroke_count() -> None:
    """From the last acknowledged write before it to the first one after."""
    tally = Tally(0.0)
    tally.wrote(1, 3.0)
    tally.wrote(2, 3.1)
    tally.strike()
    tally.missed("connection lost")
    tally.wrote(4, 3.7)
    tally.wrote(5, 3.8)
    told = tally.told(4.0)
    assert (told["gap_ms"], told["acknowledged"], told["failed"]) == (600, 4, 1)
    assert (told["idle_ms"], told["error"]) == (200, "connection lost")
    assert tally.acknowledged == {1, 2, 4, 5}


@pytest.mark.parametrize("finds_primary", [True, False])
def test_where_the_rows_go(finds_primary: bool) -> None:
    """Of servers only the primary will do; any proxy leads to it."""
    text = conninfo(
        (("10.0.0.1", 5432), ("fd00::2", 5433)),
        user="postgres",
        password="it's a secret",
        database="app",
        sslmode="verify-ca" if finds_primary else "prefer",
        ca="/pki/ca.crt" if finds_primary else "",
        finds_primary=finds_primary,
    )
    pairs = read(text)
    assert (pairs["host"], pairs["port"]) == ("10.0.0.1,fd00::2", "5432,5433")
    assert pairs["password"] == "it's a secret"
    assert pairs.get("sslrootcert") == ("/pki/ca.crt" if finds_primary else None)
    assert pairs.get("target_session_attrs") == ("read-write" if finds_primary else None)
