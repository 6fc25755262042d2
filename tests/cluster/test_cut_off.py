"""The API of nodes that do not hear each other says what is so, or that it cannot say (503)."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import psycopg
import pytest
from checkups import QUICK, checkup, red, until_red
from segment import Segment, require
from wired import Wired

from pgherd.proof import layout
from pgherd.proof.client import NoAnswer

NODES = ("n1", "n2", "n3")
pytestmark = pytest.mark.xdist_group("ethernet")

LATE_S = 40.0


@pytest.fixture
def wired() -> Iterator[Wired]:
    """Three nodes, whole."""
    require()
    segment = Segment(NODES)
    try:
        with segment.inside("hub"), Wired(segment) as herd:
            herd.start()
            herd.wait_stable(90)
            yield herd
    finally:
        segment.close()


def said(herd: Wired, name: str) -> str:
    """What who comes in by a node's proxy hears: whether its server is a replica, or why not."""
    dsn = herd.dsn_proxies()[NODES.index(name)]
    try:
        with psycopg.connect(dsn, connect_timeout=15) as session:
            [[found]] = session.execute("SELECT pg_is_in_recovery()::text").fetchall()
    except psycopg.OperationalError as error:
        return str(error)
    return str(found)[:1]


def status_of(herd: Wired, name: str, path: str) -> int:
    """The status of a bare path."""
    place = herd.places[name]
    link = http.client.HTTPConnection(place.host, place.ports.api, timeout=30)
    try:
        link.request("GET", path)
        return link.getresponse().status
    finally:
        link.close()


def refused(herd: Wired, name: str, path: str, method: str = "GET") -> int:
    """The status of what is no answer; 200 for an answer."""
    try:
        herd.ask(path, name=name, method=method, timeout_s=30)
    except NoAnswer as error:
        return error.status
    return 200


def knows_of_no_quorum(herd: Wired, name: str) -> bool:
    return not herd.ask("/cluster/status", name=name)["has_quorum"]


def test_a_primary_that_is_cut_off_says_that_it_is_none(wired: Wired) -> None:
    """To load balancers, to who asks, and to who comes in by its proxy."""
    herd, first = wired, wired.wait_primary()
    mend = herd.cut_off(first)
    try:
        others = [name for name in NODES if name != first]

        def elected() -> str | None:
            told = {herd.ask("/cluster/status", name=name)["primary_node_id"] for name in others}
            return told.pop() if len(told) == 1 and told != {first} else None

        second = herd.wait_for(elected, "a new primary, told by both", deadline_s=LATE_S)
        assert second is not None
        herd.wait_for(lambda: knows_of_no_quorum(herd, first), "no quorum", deadline_s=LATE_S)
        right = {name: 200 if name == second else 503 for name in NODES}
        herd.wait_for(
            lambda: {name: status_of(herd, name, "/primary") for name in NODES} == right,
            "one primary by everybody's word",
            deadline_s=LATE_S,
        )
        herd.wait_for(lambda: "FATAL" in said(herd, first), "no way in", deadline_s=LATE_S)
        assert said(herd, second) == "f"
        assert status_of(herd, first, "/liveness") == 200
        assert refused(herd, first, "/nodes?consistent=1") == 503
        assert refused(herd, first, "/cluster/switchover", "POST") == 503
        assert refused(herd, second, "/nodes?consistent=1") == 200
        alone = herd.ask("/cluster/status", name=first)
        assert any("quorum" in problem for problem in alone["problems"]), alone
        well = {
            one["node_id"]: one["is_healthy"] for one in herd.ask("/nodes", name=second)["nodes"]
        }
        assert well == {name: name != first for name in NODES}
    finally:
        mend()
    herd.wait_stable(90)


@pytest.mark.full
def test_nobody_knows_when_all_are_cut_off(wired: Wired) -> None:
    """And nothing is lost of what was so before."""
    herd = wired
    mend = herd.cut_off(*NODES)
    try:
        for name in NODES:
            herd.wait_for(lambda name=name: knows_of_no_quorum(herd, name), name, deadline_s=LATE_S)
        herd.wait_for(
            lambda: {status_of(herd, name, "/primary") for name in NODES} == {503},
            "no primary by anybody's word",
            deadline_s=LATE_S,
        )
        for name in NODES:
            assert status_of(herd, name, "/metrics") == 200
            assert refused(herd, name, "/nodes?consistent=1") == 503
            assert refused(herd, name, "/cluster/pause", "POST") == 503
    finally:
        mend()
    herd.wait_stable(90)
    assert not herd.ask("/cluster/status")["paused"]


@pytest.mark.full
def test_a_node_that_tells_others_the_address_of_its_own_machine(wired: Wired) -> None:
    """They do not reach it there, and nobody can ask it. Whoever is asked says so; so does it,
    though it hears nothing of what the ledger says of it since."""
    herd, wrong = wired, "n3"
    primary = herd.wait_primary()
    if primary == wrong:
        herd.switchover("n1")
        herd.wait_stable(90)
    assert ("net.address", "") not in red(checkup(herd, via="n1", query=QUICK))
    place = herd.places[wrong]
    right = layout.read_settings(place)
    herd.terminate_node(wrong, within_s=60)
    address = {"node": {"address": {"advertise": "127.0.0.1"}}}
    layout.write_settings(place, layout.merge(right, address))
    herd.start_node(wrong)
    for name in NODES:
        until_red(herd, name, ("net.address", ""))
    herd.terminate_node(wrong, within_s=60)
    layout.write_settings(place, right)
    herd.start_node(wrong)
    herd.wait_stable(90)
    assert ("net.address", "") not in red(checkup(herd, via="n1", query=QUICK))
