"""Whether a server's WAL is on another's history, and how it connects there."""

from __future__ import annotations

from typing import Any

import pytest

from pgherd.model.branch import FIRST, Fork
from pgherd.model.ids import Lsn, Timeline
from pgherd.model.standbycluster import RemoteSeen, Source
from pgherd.postgres import remoteprogram
from pgherd.postgres.conninfo import read
from pgherd.postgres.remote import answering, collides, left_at, stream_conninfo, theirs
from pgherd.postgres.settings import ServerSettings

TWO, OTHER_TWO = Fork(Timeline(2), Lsn(95)), Fork(Timeline(2), Lsn(80))
THREE = Fork(Timeline(3), Lsn(200))
ONE = (FIRST,)


@pytest.mark.parametrize(
    ("own", "source", "end", "left"),
    [
        (ONE, ONE, 110, None),
        (ONE, (FIRST, TWO), 95, None),
        (ONE, (FIRST, TWO), 110, 95),
        ((FIRST, TWO), (FIRST, TWO, THREE), 200, None),
        ((FIRST, TWO), (FIRST, TWO, THREE), 201, 200),
        ((FIRST, TWO), ONE, 95, None),
        ((FIRST, TWO), ONE, 96, 95),
        ((FIRST, OTHER_TWO), (FIRST, TWO), 100, 80),
        ((), (FIRST, TWO), 100, None),
    ],
)
def test_where_histories_part(own: Any, source: Any, end: int, left: int | None) -> None:
    """Up to the point where either goes its own way all is common; an unknown one says nothing."""
    assert left_at(own, source, Lsn(end)) == left


def test_one_number_for_two_timelines_is_seen() -> None:
    """Only where there is WAL of ours on it: a history file alone is none."""
    assert collides((FIRST, OTHER_TWO), (FIRST, TWO), Lsn(81))
    assert not collides((FIRST, OTHER_TWO), (FIRST, TWO), Lsn(80))
    assert not collides((FIRST, TWO), (FIRST, TWO, THREE), Lsn(500))


def test_of_several_hosts_the_primary_answers() -> None:
    source = Source((("a", 1), ("b", 2)), slot="")
    down = RemoteSeen("a", 1, problem="refused")
    standby, primary = RemoteSeen("a", 1), RemoteSeen("b", 2, is_primary=True)
    assert answering(source, [standby, primary]) == primary
    assert answering(source, [down, standby]).problem == "a:1: refused; a:1: is no primary"
    alone = Source((("a", 1),), slot="")
    assert answering(alone, [standby]) == standby


def test_a_history_is_read() -> None:
    seen = RemoteSeen("a", 1, timeline=Timeline(2), history="1\t0/5F\tno recovery target\n")
    assert theirs(seen) == (FIRST, TWO)
    assert theirs(RemoteSeen("a", 1, timeline=Timeline(1))) == ONE


class Stub:
    """What a connection string is made of."""

    settings = ServerSettings(passfile="/run/pgpass", tls_ca="/pki/ca.crt")

    class binaries:
        major = 15


def test_how_it_connects() -> None:
    """Of several hosts to the primary; the remote's certificate is none of our authority's."""
    remote = Source((("a", 1), ("b", 2)), slot="s", sslmode="require")
    text = stream_conninfo(Stub(), remote, name="n1")  # type: ignore[arg-type] # enough of it
    pairs = read(text)
    assert (pairs["host"], pairs["port"], pairs["sslmode"]) == ("a,b", "1,2", "require")
    assert pairs["target_session_attrs"] == "primary"
    assert pairs["application_name"] == "pgherd-standby-n1"
    assert "sslrootcert" not in pairs
    assert "password" not in pairs
    leader = Source((("a", 1),), slot="s", node="n1")  # type: ignore[arg-type] # a name
    text = stream_conninfo(Stub(), leader, name="n2")  # type: ignore[arg-type] # enough of it
    assert read(text)["sslrootcert"] == "/pki/ca.crt"
    assert "target_session_attrs" not in read(text)


def test_a_server_that_is_not_there_says_why() -> None:
    said = remoteprogram.ask("host=127.0.0.1 port=1 connect_timeout=1 replication=true")
    assert "refused" in said["problem"].lower()
