"""Proves which server a session gets and which sessions must end, as tables."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from pgherd.model.ids import Instant, NodeId, Term
from pgherd.route.choose import (
    Backend,
    Balance,
    Bound,
    NoBackend,
    Preference,
    Route,
    Snapshot,
    choose,
    is_newer,
    rebound,
    superseded,
)

N1, N2, N3, N4 = (Backend(NodeId(f"n{i}"), "127.0.0.1", 5000 + i) for i in range(1, 5))
NOW = Instant(1_000)
BASE = Snapshot(
    generation=1,
    term=Term(5),
    expires_at=Instant(2_000),
    primary=N1,
    replicas=(N2, N3),
)
LIMIT = Preference(lag_bytes_max=100)


def change(snapshot: Snapshot, **fields: object) -> Snapshot:
    return msgspec.structs.replace(snapshot, **fields)


def pick(snapshot: Snapshot | None, route: Route, **options: object) -> str:
    """The chosen server, or `CODE message`."""
    arguments: dict[str, object] = {"now": NOW, "counts": {}, "preference": LIMIT, **options}
    found = choose(snapshot, route, **arguments)  # type: ignore[arg-type]  # a table of options
    match found:
        case Bound(backend=backend):
            return backend.name
        case NoBackend(sqlstate=code, message=message):
            return f"{code} {message}"


LAGGING = Backend(NodeId("n2"), "h", 1, lag_bytes=101)
AT_LIMIT = Backend(NodeId("n2"), "h", 1, lag_bytes=100)
UNKNOWN = Backend(NodeId("n2"), "h", 1, lag_bytes=None)
KEPT_OUT_3 = Backend(NodeId("n3"), "h", 1, usable=False)
KEPT_OUT = Backend(NodeId("n2"), "h", 1, usable=False)
ALONE = Preference(lag_bytes_max=100, falls_back=False)
CLOSED = Backend(NodeId("n1"), "h", 1, usable=False)


@pytest.mark.parametrize(
    ("snapshot", "options", "expected"),
    [
        (BASE, {}, "n1"),
        (BASE, {"now": Instant(1_999)}, "n1"),
        (BASE, {"now": Instant(2_000)}, "57P03 what this proxy knows"),
        (BASE, {"exclude": {"n1"}}, "57P03 the primary n1 does not accept"),
        (change(BASE, primary=None), {}, "57P03 the cluster has no primary now (term 5)"),
        (change(BASE, primary=CLOSED), {}, "57P03 the primary n1 takes no sessions"),
        (None, {}, "57P03 this proxy has heard nothing"),
    ],
)
def test_primary_route(
    snapshot: Snapshot | None, options: dict[str, object], expected: str
) -> None:
    """Only the primary, only before the deadline; never a replica."""
    assert pick(snapshot, Route.PRIMARY, **options).startswith(expected)


@pytest.mark.parametrize(
    ("snapshot", "options", "expected"),
    [
        (BASE, {"turn": 0}, "n2"),
        (BASE, {"turn": 1}, "n3"),
        (BASE, {"counts": {"n2": 2, "n3": 1}}, "n3"),
        (BASE, {"counts": {"n3": 1}, "turn": 1}, "n2"),
        (BASE, {"exclude": {"n2"}}, "n3"),
        (BASE, {"exclude": {"n2", "n3"}}, "n1"),
        (BASE, {"now": Instant(9_000)}, "n2"),
        (change(BASE, replicas=(AT_LIMIT,)), {}, "n2"),
        (change(BASE, replicas=(LAGGING,)), {}, "n1"),
        (change(BASE, replicas=(UNKNOWN,)), {}, "n1"),
        (change(BASE, replicas=(KEPT_OUT,)), {}, "n1"),
        (change(BASE, replicas=(KEPT_OUT, N3)), {}, "n3"),
        (change(BASE, replicas=()), {"preference": ALONE}, "57P03 no replica can take"),
        (change(BASE, replicas=(LAGGING,)), {"preference": ALONE}, "57P03 no replica can take"),
        (change(BASE, replicas=()), {"now": Instant(2_000)}, "57P03 no replica"),
        (change(BASE, replicas=(), primary=None), {}, "57P03 no replica"),
        (change(BASE, primary=None), {"turn": 0}, "n2"),
        (None, {}, "57P03 this proxy"),
    ],
)
def test_replica_route(
    snapshot: Snapshot | None, options: dict[str, object], expected: str
) -> None:
    """Fewest sessions among the usable, in turn; reads outlive the deadline; else the primary."""
    assert pick(snapshot, Route.REPLICA, **options).startswith(expected)


def test_ties_rotate_evenly() -> None:
    """Many choices with equal counts spread evenly."""
    wide = change(BASE, replicas=(N2, N3, N4))
    found = Counter(pick(wide, Route.REPLICA, turn=turn) for turn in range(300))
    assert found == {"n2": 100, "n3": 100, "n4": 100}


def test_round_robin_looks_at_no_counts() -> None:
    """Each in turn, whoever has how many sessions; one that cannot take any is passed over."""
    wide = change(BASE, replicas=(N2, KEPT_OUT_3, N4))
    turns = Preference(balance=Balance.ROUND_ROBIN)
    counts = {NodeId("n2"): 9}
    found = [
        pick(wide, Route.REPLICA, turn=turn, preference=turns, counts=counts) for turn in range(6)
    ]
    assert found == ["n2", "n4"] * 3


NEAR = tuple(
    Backend(NodeId(f"n{i}"), "h", i, zone=zone, lag_bytes=lag)
    for i, zone, lag in ((2, "a", 0), (3, "b", 0), (4, "b", 50), (5, "", 0))
)


@pytest.mark.parametrize(
    ("zone", "lag", "expected"),
    [
        ("a", 100, {"n2"}),
        ("b", 100, {"n3", "n4"}),
        ("b", 10, {"n3"}),
        ("c", 100, {"n2", "n3", "n4", "n5"}),
        ("", 100, {"n2", "n3", "n4", "n5"}),
    ],
)
@pytest.mark.parametrize("balance", list(Balance))
def test_a_replica_of_the_own_zone_comes_first(
    zone: str, lag: int, expected: set[str], balance: Balance
) -> None:
    """While one is fit the others get nothing; without one, or without a zone, all share."""
    preference = Preference(balance=balance, zone=zone, lag_bytes_max=lag)
    wide = change(BASE, replicas=NEAR)
    found = {pick(wide, Route.REPLICA, turn=turn, preference=preference) for turn in range(8)}
    assert found == expected


def test_the_zone_is_left_when_its_replicas_refuse() -> None:
    """A client that they just refused goes to another zone, not to the primary."""
    near = Preference(zone="a")
    wide = change(BASE, replicas=NEAR)
    assert pick(wide, Route.REPLICA, preference=near, exclude={"n2"}) == "n3"


def test_a_fallen_back_session_counts_as_the_primarys() -> None:
    """It can write, so it must end with the reign."""
    found = choose(change(BASE, replicas=()), Route.REPLICA, now=NOW, counts={})
    assert found == Bound(N1, Term(5), to_primary=True)


TO_PRIMARY = Bound(N1, Term(5), to_primary=True)
TO_REPLICA = Bound(N2, Term(5), to_primary=False)


@pytest.mark.parametrize(
    ("bound", "fields", "is_cut"),
    [
        (TO_PRIMARY, {}, False),
        (TO_PRIMARY, {"primary": None}, False),
        (TO_PRIMARY, {"primary": N2}, True),
        (TO_PRIMARY, {"term": Term(6), "primary": None}, True),
        (TO_PRIMARY, {"term": Term(6), "primary": N2}, True),
        (TO_PRIMARY, {"term": Term(6)}, True),
        (TO_PRIMARY, {"term": Term(4), "primary": N2}, False),
        (TO_PRIMARY, {"expires_at": Instant(0)}, False),
        (TO_REPLICA, {"term": Term(6), "primary": None}, False),
        (TO_REPLICA, {"term": Term(6), "primary": N2}, False),
        (TO_REPLICA, {"replicas": ()}, False),
    ],
)
def test_superseded(bound: Bound, fields: dict[str, object], is_cut: bool) -> None:
    """Sessions to a primary end with its reign, and for no other reason; reads stay."""
    assert superseded(bound, change(BASE, **fields)) is is_cut


def test_a_promoted_replicas_session_ends_with_its_reign() -> None:
    """PostgreSQL keeps it through the promotion, and it can write from then on."""
    reign = change(BASE, term=Term(6), primary=N2)
    now_primary = rebound(TO_REPLICA, reign)
    assert now_primary == Bound(N2, Term(6), to_primary=True)
    assert not superseded(now_primary, reign)
    assert superseded(now_primary, change(BASE, term=Term(7), primary=None))
    assert rebound(TO_REPLICA, BASE) == TO_REPLICA


def test_terms_never_go_back() -> None:
    """A snapshot of an older term is refused, one of the same term is taken."""
    assert is_newer(BASE, None)
    assert is_newer(change(BASE, generation=0), BASE)
    assert not is_newer(change(BASE, term=Term(4)), BASE)
