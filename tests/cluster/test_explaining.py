"""What `explain` says would follow is what follows: who leads, for how long not, what is lost."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest

from pgherd.proof.asking import HerdView
from pgherd.proof.client import NoAnswer
from pgherd.proof.herd import LocalHerd

pytestmark = pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)

DEADLINE_S = 60.0
ROWS = 20
FAILOVER_STEPS = ["term.begun", "leader.elected", "term.established"]


def explain(herd: HerdView, query: str = "", *, name: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = herd.ask(f"/explain{query}", name=name)
    return found


def what_if(herd: HerdView, query: str, *, name: str) -> dict[str, Any]:
    found: dict[str, Any] = explain(herd, query, name=name)["what_if"]
    return found


def write(herd: LocalHerd) -> None:
    """One row, acknowledged by whoever is the primary."""
    dsn = f"{herd.dsn_direct()} connect_timeout=2"
    with psycopg.connect(dsn, autocommit=True) as one:
        one.execute("SET statement_timeout = 2000")
        one.execute("INSERT INTO told VALUES (DEFAULT)")


def rows(herd: LocalHerd, name: str) -> int:
    [(found,)] = herd.query(name, "SELECT count(*) FROM told")
    return int(str(found))


def outage_ms(herd: LocalHerd, since: float) -> int:
    """Until a row is acknowledged again."""

    def written() -> bool:
        write(herd)
        return True

    herd.wait_for(written, "write", deadline_s=DEADLINE_S)
    return round((time.monotonic() - since) * 1000)


@pytest.fixture
def told(herd: LocalHerd) -> LocalHerd:
    """A herd with rows that were acknowledged."""
    herd.query(herd.wait_primary(), "CREATE TABLE IF NOT EXISTS told (n serial); TRUNCATE told")
    for _ in range(ROWS):
        write(herd)
    return herd


def test_the_loss_of_the_primary_and_then_of_the_quorum(told: LocalHerd) -> None:
    """A node that is named takes over (of two equals nobody knows before which will have most), in
    the time that is named, with every row; and with one of three left nobody does, as was told."""
    herd, old = told, told.wait_primary()
    asked = next(name for name in herd.data if name != old)
    promise = what_if(herd, f"?if_lost={old}", name=asked)
    assert promise["writes"] == "go on after an election", promise
    assert (promise["loss"]["bytes"], promise["loss"]["text"]) == (0, "no acknowledged commit")
    before = time.monotonic()
    herd.kill_node(old)
    new = herd.wait_primary(other_than=old, deadline_s=DEADLINE_S)
    assert new in (promise["new_primary"], *promise["also_possible"]), promise
    assert promise["outage"]["expected_ms"] >= 1000, "silence alone takes longer"
    assert outage_ms(herd, before) <= promise["outage"]["at_most_ms"]
    assert rows(herd, new) == ROWS + 1

    change = explain(herd, name=new)["last_change"]
    assert (change["kind"], change["from_node"], change["to_node"]) == ("failover", old, new)
    steps = [one["kind"] for one in change["steps"]]
    assert [kind for kind in steps if kind in FAILOVER_STEPS] == FAILOVER_STEPS
    assert change["rule"] == promise["steps"][0]["rule"] == 203
    assert 0 < change["duration_ms"] <= promise["outage"]["at_most_ms"]

    (last,) = set(herd.data) - {old, new}
    promise = what_if(herd, f"?if_lost={new}", name=last)
    assert (promise["has_quorum"], promise["writes"], promise["new_primary"]) == (
        False,
        "wait",
        None,
    )
    assert "no quorum would be left (1 of 3 votes)" in promise["why"]
    herd.kill_node(new)
    herd.wait_for(
        lambda: not herd.ask("/cluster/status", name=last)["has_quorum"],
        "sight of the lost quorum",
        deadline_s=DEADLINE_S,
    )
    found = explain(herd, f"/{last}", name=last)
    assert not found["can_be_elected"]
    assert herd.query(last, "SELECT pg_is_in_recovery()") == [(True,)]
    herd.restart_node(new)
    herd.restart_node(old)
    herd.wait_stable(DEADLINE_S)
    assert rows(herd, herd.wait_primary()) == ROWS + 1


def test_a_switchover_and_its_refusal(told: LocalHerd) -> None:
    """Who is said to take over does; who is said not to be able to is refused in the same words."""
    herd, old = told, told.wait_primary()
    spared, other = sorted(set(herd.data) - {old})
    path = f"/nodes/{spared}/maintenance"
    herd.ask(path, method="POST", body={"enabled": True}, timeout_s=15.0)
    try:
        herd.wait_for(
            lambda: not explain(herd, f"/{spared}")["can_switch_over"],
            f"{spared} that cannot lead",
            deadline_s=DEADLINE_S,
        )
        reason = explain(herd, f"/{spared}")["why_not_switchover"]
        assert "in maintenance" in reason
        with pytest.raises(NoAnswer) as refused:
            herd.switchover(to=spared)
        assert reason in str(refused.value)
        promise = what_if(herd, f"?if_lost={old}", name=other)
        assert (promise["new_primary"], promise["also_possible"]) == (other, [])
        promise = what_if(herd, "?if_switchover=1", name=other)
        assert (promise["new_primary"], promise["writes"]) == (other, "go on after a switchover")
        before = time.monotonic()
        herd.switchover()
        assert herd.wait_primary(other_than=old) == promise["new_primary"]
        outage_ms(herd, before)
        change = explain(herd)["last_change"]
        assert (change["kind"], change["to_node"]) == ("switchover", other)
        assert change["steps"][0]["kind"] == "switchover.requested"
        assert change["duration_ms"] <= promise["outage"]["at_most_ms"]
    finally:
        herd.ask(path, method="POST", body={"enabled": False}, timeout_s=15.0)
    herd.wait_stable(DEADLINE_S)
