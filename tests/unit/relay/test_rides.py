"""Proves what is told of those who ride, and that a proxy does without the shuttle."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from pgherd.relay.messages import Engine
from pgherd.relay.rides import Rides
from pgherd.relay.riding import Counts, Numbers, added, with_riding, with_totals
from pgherd.route.poolsteps import Seen


def rides(engine: Engine) -> Rides:
    gate: Any = SimpleNamespace(settings=SimpleNamespace(engine=engine))
    pools: Any = object()
    return Rides(pools, gate)


def test_without_the_extension_everything_passes_in_python(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is told what to do about it, and nobody rides."""
    monkeypatch.setitem(sys.modules, "pgherd.relay._shuttle", None)
    monkeypatch.delitem(sys.modules, "pgherd.relay.carrying", raising=False)
    found = rides(Engine.AUTO)
    found.configure()
    said = "".join(capfd.readouterr())
    assert "pools.slow" in said
    assert "install gcc" in said
    lending: Any = SimpleNamespace(rode=Counts(lent=3))
    there: Any = object()
    session: Any = SimpleNamespace(is_riding=False, bound=there)
    found.rests(session)
    found.all_back()
    found.tick(0)
    assert found.of(lending).lent == 3
    assert found.served_at(session) is there
    assert found.waits_with([1, 2]) == (1, 2)
    assert (found.servers(), found.bytes_passed(), found.total()) == ({}, (0, 0), Counts())
    found.close()


def test_where_it_is_not_wanted_nothing_is_said_of_it(capfd: pytest.CaptureFixture[str]) -> None:
    found = rides(Engine.UVLOOP)
    found.configure()
    assert found.total() == Counts()
    assert "".join(capfd.readouterr()) == ""


def test_a_pool_is_told_with_those_who_ride() -> None:
    """Five servers are lent, to the shuttle for three; of these one has nothing to do. One that
    waits fetches for others."""
    seen = Seen(
        clients_active=5, clients_waiting=4, servers_active=5, servers_idle=2, servers_opening=0,
        servers_resetting=0, longest_wait_ms=9, is_paused=False, lent=100, waited=7, waited_ms=70,
        opened=0, not_opened=0, closed=0, refused=0,
    )  # fmt: skip
    counts = Counts(idle=1, waiting=6, lent=1000, waited=30, waited_ms=300, longest_wait_ms=20)
    told = with_riding(seen, counts, fetching=1, fetched=3)
    assert (told.clients_active, told.servers_active, told.servers_idle) == (4, 4, 3)
    assert (told.clients_waiting, told.longest_wait_ms) == (9, 20)
    assert (told.lent, told.waited, told.waited_ms) == (1097, 37, 370)


def test_what_was_done_is_added_and_what_is_now_is_not() -> None:
    one = Counts(clients=2, servers=1, lent=10, waited_ms=5, classes=(1, 2))
    two = Counts(clients=3, lent=1, tried=4, classes=(1, 1, 1))
    assert added(one, two) == Counts(lent=11, waited_ms=5, tried=0, classes=(2, 3, 1))
    assert with_totals(one, two).clients == 2
    assert added(Counts(), one).classes == (1, 2)


def test_alike_have_one_number_and_no_number_comes_again() -> None:
    numbers = Numbers[str](2)
    assert [numbers.of(one) for one in "aba"] == [1, 2, 1]
    assert [numbers.of(one) for one in "ca"] == [3, 4]
