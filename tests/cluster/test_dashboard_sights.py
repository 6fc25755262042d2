"""What the dashboard says when things are bad, of real herds in which they are.

Every sight is kept as four pictures, on a desk and on a phone, in light and dark: people look at
them (`build/dashboard`). The last one is of answers that no small herd gives: fifteen nodes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import psycopg
import pytest
from browsing import Person, browsing
from clients import connect
from test_byhand import SLOW_TO_STOP
from test_byhand import Person as Hands
from test_standby_cluster import postgres_bin, standby_of, wait_leader

from pgherd.proof import layout
from pgherd.proof.herd import LocalHerd

pytestmark = [
    pytest.mark.full,
    pytest.mark.xdist_group("sights"),
    pytest.mark.parametrize("stable", ["wheel-18"], indirect=True),
]
LONG = "warehouse-production-eu-central-1b-node"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, once for all tests here."""
    with browsing() as found:
        yield found


@contextmanager
def looking(browser: Any, herd: LocalHerd, name: str, **more: Any) -> Iterator[Person]:
    """Somebody looks at a node, and says at the end what was wrong with the page."""
    person = Person(browser, herd, name, token=herd.secrets.token, **more)
    person.come()
    yield person
    person.go()


@pytest.fixture
def pooled(stable: Any) -> Iterator[LocalHerd]:
    """A herd whose proxies lend one server to all clients."""
    with LocalHerd(3, postgres_bin=stable.postgres_bin) as herd:
        for place in herd.places.values():
            layout.end_sessions_at_proxy(
                place, pool="transaction", connect_timeout="60s", pools={"size": 1, "reserve": 0}
            )
        herd.start()
        herd.wait_stable(90)
        yield herd


@contextmanager
def waiting(herd: LocalHerd, node: int) -> Iterator[None]:
    """Somebody who asks for a server meanwhile, and is not answered."""

    def ask() -> None:
        with suppress(psycopg.Error), connect(herd, node) as session:
            session.execute("SELECT 1")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_herd_gets_worse(pooled: LocalHerd, browser: Any) -> None:
    """Maintenance, a pool with somebody who waits, clients that are held, no quorum: each said."""
    primary = pooled.wait_primary()
    left, other = (name for name in pooled.nodes if name != primary)
    node = pooled.nodes.index(left)
    wish = {"enabled": True, "reason": "a new disk"}
    with looking(browser, pooled, left) as person:
        pooled.ask(f"/nodes/{other}/maintenance", method="POST", body=wish)
        person.sees("in maintenance", within=".nodes")
        person.assert_fit_everywhere("maintenance")
        pooled.ask(f"/nodes/{other}/maintenance", method="POST", body={"enabled": False})

        with connect(pooled, node) as busy:
            busy.execute("BEGIN")
            with waiting(pooled, node):
                person.sees("1 client waiting", within=".proxies")
                person.assert_fit_everywhere("pool")
                busy.execute("COMMIT")

        pooled.wait_stable(60)
        pooled.ask("/cluster/pause", method="POST", body={"reason": "work on the network"})
        pooled.kill_node(primary)
        with waiting(pooled, node):
            person.sees("Writes wait", within=".verdict")
            person.sees("1 held", within=".facts")
            person.sees("1 client held", within=".proxies")
            person.assert_fit_everywhere("held")
            pooled.kill_node(other)
            person.sees("No quorum here", within=".verdict")
            person.sees("the others may go on without it", within=".verdict")
            assert not person.has_button("End the pause…")
            person.assert_fit_everywhere("no-quorum")
            person.sees("is not heard", within=".facts")
            pooled.start()
            resume = partial(pooled.ask, "/cluster/resume", method="POST", body={})
            pooled.wait_for(lambda: resume() is not None, "a quorum again", deadline_s=60)
            pooled.wait_primary()


def test_split_brain(stable: Any, browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that somebody promotes by hand: the page says so above all else, and names it."""
    monkeypatch.setenv("PGHERD_FAILPOINT", SLOW_TO_STOP.replace("2000", "20000"))
    with LocalHerd(3, postgres_bin=stable.postgres_bin) as herd:
        herd.start()
        herd.wait_stable(90)
        primary = herd.wait_primary()
        victim, at = (name for name in herd.nodes if name != primary)
        with looking(browser, herd, at) as person:
            person.sees("Writable", within=".verdict")
            Hands(herd, victim, stable.postgres_bin).promote()
            person.sees("Split brain", within=".verdict")
            person.sees(f"the server of {victim}", within=".attention li:first-child")
            assert person.page.locator(".verdict.bad").count() == 1
            person.until("document.title.startsWith('Split brain')")
            person.assert_fit_everywhere("split-brain")


def test_a_standby_cluster(stable: Any, browser: Any) -> None:
    """It takes no writes and offers no switchover; while the remote is away it says so."""
    with LocalHerd(1, postgres_bin=postgres_bin()) as remote:
        remote.start()
        remote.wait_primary()
        with standby_of(remote) as herd:
            leader = wait_leader(herd)
            with looking(browser, herd, leader) as person:
                person.sees("Standby cluster", within=".verdict")
                person.sees("streams from", within=".verdict")
                assert not person.has_button("Switch over…")
                person.until("document.querySelectorAll('.topology .node').length === 3")
                person.sees("1 replica", within=".facts")
                person.assert_fit_everywhere("standby")
                remote.kill_node(remote.nodes[0])
                person.sees("does not stream", within=".verdict")
                person.sees("the remote is not heard", within=".facts")
                person.assert_fit_everywhere("standby-alone")


def test_fifteen_nodes_with_long_names(stable: Any, browser: Any) -> None:
    """By the API's words for it, from one node's: mode async, a late one, one that is not known."""
    herd = stable.whole()
    status, nodes, proxies = (herd.ask(path) for path in ("/cluster/status", "/nodes", "/proxies"))
    history = herd.ask("/history?limit=500")
    told = {
        "/cluster/status": {**status, **among_many(status)},
        "/nodes": {**nodes, "nodes": many(nodes["nodes"])},
        "/proxies": {**proxies, "proxies": doors(proxies["proxies"][0])},
        "/history?limit=500": {**history, "reigns": undecided(history["reigns"])},
    }
    with looking(browser, herd, herd.nodes[0], told=told) as person:
        person.sees("not known of", within=".facts")
        person.until("document.querySelectorAll('.topology .node').length === 15")
        person.sees("nobody", within=".facts")
        person.sees("one of 2 addresses", within=".facts")
        person.sees("not established", within=".timeline")
        epoch = history["reigns"][-1]["epoch"] + 1
        assert not person.page.locator(f"[data-key=reign-{epoch}]").count(), "it did not lead"
        assert person.page.locator(f"[data-key=gap-{epoch}]").count() == 1
        person.assert_fit_everywhere("fifteen")


def among_many(status: dict[str, Any]) -> dict[str, Any]:
    """Nobody's copy is waited for, and of two addresses one has no owner."""
    names = [f"{LONG}-{at:02}" for at in range(15)]
    vip = {"follow": "primary", "nodes": []}
    return {
        "primary_node_id": names[0],
        "raft_leader": names[1],
        "raft_voters": names[:7],
        "node_count": 15,
        "synchronous": {**status["synchronous"], "mode": "async", "voters": [], "num_sync": 0},
        "vips": [
            {**vip, "address": "10.0.1.100", "vip_owner": names[0], "owners": [names[0]]},
            {**vip, "address": "10.0.1.101", "vip_owner": None, "owners": []},
        ],
    }


def many(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One primary and fourteen others, of which one is late on purpose and one is not known."""
    primary = next(one for one in nodes if one["is_primary"])
    replica = next(one for one in nodes if not one["is_primary"])
    found = []
    for at in range(15):
        like = primary if at == 0 else replica
        name, up = f"{LONG}-{at:02}", f"{LONG}-{0 if at < 5 else at % 4 + 1:02}"
        more: dict[str, Any] = {"name": name, "node_id": name, "upstream": up, "is_sync": False}
        if at == 3:
            more |= {"lag_bytes": 9 << 30, "lag_ms": 3_600_000}
            more["tags"] = {**like["tags"], "delay_ms": 3_600_000}
        if at == 4:
            more |= {"lag_bytes": None, "lag_ms": None, "state": "unreachable", "is_healthy": False}
        found.append({**like, **more})
    return found


def doors(one: dict[str, Any]) -> list[dict[str, Any]]:
    """The ways in of four of them."""
    return [{**one, "node": f"{LONG}-{at:02}", "by_backend": {}} for at in range(4)]


def undecided(reigns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With an election after the last reign that came to nothing yet."""
    last = reigns[-1]
    more = {"established": False, "established_at": None, "duration_ms": None, "kind": "failover"}
    return [*reigns, {**last, **more, "epoch": last["epoch"] + 1, "old_primary": last["primary"]}]
