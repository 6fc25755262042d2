"""A herd whose clients come in by `route: auto`: what agents explain, and writes seen after a
switchover."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest

from pgherd.proof import layout
from pgherd.proof.herd import LocalHerd

pytestmark = [
    pytest.mark.parametrize("stable", ["wheel-18"], indirect=True),
    pytest.mark.xdist_group("pool"),
]

DEADLINE_S = 30.0


def last(session: psycopg.Connection[Any]) -> tuple[str, ...]:
    row = session.execute("SHOW pgherd.route").fetchone()
    assert row is not None
    return row


def until_replica(session: psycopg.Connection[Any], statement: str) -> Any:
    """The answer, once a replica gives it."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        row = session.execute(statement).fetchone()
        assert row is not None
        if last(session)[1] == "replica":
            return row[0]
        assert time.monotonic() < deadline, last(session)
        time.sleep(0.05)


def test_writes_are_seen_on_replicas_before_and_after_a_switchover(stable: Any) -> None:
    """A session reads what it wrote, first at the primary's and then at replicas; so it does under
    the next term, whose positions are others."""
    with LocalHerd(3, postgres_bin=stable.postgres_bin) as herd:
        for place in herd.places.values():
            layout.end_sessions_at_proxy(
                place, pool="transaction", connect_timeout="30s", read_your_writes="session"
            )
            settings = layout.read_settings(place)
            settings["proxy"]["listeners"][0]["route"] = "auto"
            layout.write_settings(place, settings)
        herd.start()
        herd.wait_stable(90)
        host, port = herd.proxy_of(herd.nodes[1])
        session = psycopg.connect(
            host=host, port=port, user="postgres", password=herd.secrets.superuser,
            dbname="postgres", autocommit=True, connect_timeout=40,
        )  # fmt: skip
        session.execute("CREATE TABLE seen_again (i int)")
        read = "SELECT count(*) FROM seen_again"
        for number in (1, 2, 3):
            session.execute("INSERT INTO seen_again VALUES (1)")
            assert session.execute(read).fetchone() == (number,)
        assert until_replica(session, read) == 3
        before = herd.wait_primary()
        herd.switchover()
        herd.wait_primary(other_than=before)
        assert session.execute(read).fetchone() == (3,)
        session.execute("INSERT INTO seen_again VALUES (1)")
        assert session.execute(read).fetchone() == (4,)
        assert until_replica(session, read) == 4
        token = session.execute("SHOW pgherd.lsn_token").fetchone()
        assert token is not None
        assert int(token[0].partition(":")[0]) > 1
        session.close()
