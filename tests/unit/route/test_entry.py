"""Proves who may come in and when there is no place for one more, as tables."""

from __future__ import annotations

import ipaddress

import pytest

from pgherd.relay.barred import packed
from pgherd.route.entry import Full, Key, Kind, Limits, Network, Places, may_come, named


def network(text: str) -> Network:
    found = ipaddress.ip_network(text)
    return Network(found.network_address.packed, found.prefixlen)


@pytest.mark.parametrize(
    ("host", "allow", "expected"),
    [
        ("10.0.1.7", (), True),
        ("unknown", (), True),
        ("10.0.1.7", ("10.0.1.0/24",), True),
        ("10.0.2.7", ("10.0.1.0/24",), False),
        ("10.0.2.7", ("10.0.1.0/24", "10.0.2.7/32"), True),
        ("10.0.2.8", ("10.0.2.7/32",), False),
        ("::ffff:10.0.1.7", ("10.0.1.0/24",), True),
        ("fd00::1", ("10.0.1.0/24",), False),
        ("fd00::1", ("fd00::/8",), True),
        ("fe80::1%eth0", ("fe80::/10",), True),
        ("2001:db8::1", ("fd00::/8",), False),
        ("192.0.2.1", ("0.0.0.0/0",), True),
        ("fd00::1", ("0.0.0.0/0",), False),
        ("unknown", ("0.0.0.0/0", "::/0"), False),
        ("", ("0.0.0.0/0",), False),
    ],
)
def test_who_may_come(host: str, allow: tuple[str, ...], expected: bool) -> None:
    """An empty list lets all in; an address that is none is in no network."""
    assert may_come(packed(host), [network(text) for text in allow]) is expected


ANN, BOB, APP = (Kind.USER, "ann"), (Kind.USER, "bob"), (Kind.DATABASE, "app")


def test_a_place_is_taken_of_all_keys_or_of_none() -> None:
    """What is full for one key must not use up another's places."""
    places = Places()
    assert places.take({ANN: 2, APP: 3}) is None
    assert places.take({ANN: 2, APP: 3}) is None
    full = places.take({ANN: 2, APP: 3})
    assert isinstance(full, Full)
    assert (full.kind, full.refusal.sqlstate) == (Kind.USER, "53300")
    assert full.refusal.message == 'pgherd: user "ann" has 2 sessions open already'
    assert places.take({BOB: 2, APP: 3}) is None
    full = places.take({BOB: 2, APP: 3})
    assert full is not None
    assert full.kind is Kind.DATABASE
    places.leave((ANN, APP))
    assert places.take({BOB: 2, APP: 3}) is None


def test_a_place_without_a_limit_is_counted_for_the_day_it_gets_one() -> None:
    """Limits change while sessions are open."""
    places = Places()
    for _ in range(5):
        assert places.take({ANN: 0}) is None
    assert places.take({ANN: 5}) is not None
    places.leave([ANN] * 5)
    assert places.take({ANN: 1}) is None


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ((("user", "ann"), ("database", "app")), {ANN: 7, APP: 3}),
        ((("user", "ann"),), {ANN: 7, (Kind.DATABASE, "ann"): 9}),
        ((("user", "ann"), ("database", "")), {ANN: 7, (Kind.DATABASE, "ann"): 9}),
        ((("user", "bob"), ("database", "app")), {BOB: 0, APP: 3}),
    ],
)
def test_names_and_their_limits(
    parameters: tuple[tuple[str, str], ...], expected: dict[Key, int]
) -> None:
    """A limit by name counts before the one for any; a database has its user's name by default."""
    limits = Limits(user=7, database=9, users={"bob": 0}, databases={"app": 3})
    assert named(parameters, limits) == expected
