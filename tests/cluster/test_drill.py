"""A drill changes the primary, measures what its own clients felt, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest

from pgherd.proof.client import NoAnswer
from pgherd.proof.herd import LocalHerd

pytestmark = pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)

DEADLINE_S = 120.0


def drilled(herd: LocalHerd, *, name: str, **body: str) -> dict[str, Any]:
    """One drill to its end, measured by a node."""
    begun = herd.ask("/drill", method="POST", body=body, name=name, timeout_s=20.0)

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = herd.ask(f"/drills/{begun['id']}")
        return found if found["state"] != "running" else None

    found = herd.wait_for(ended, "end of the drill", deadline_s=DEADLINE_S)
    assert found is not None
    assert found["state"] == "done", found
    return found


def test_a_switchover_and_a_kill_are_measured(herd: LocalHerd) -> None:
    """By the old primary's own node, and by another; no row is missing, and all nodes know."""
    old = herd.wait_primary()
    found = drilled(herd, name=old)
    new = herd.wait_primary(other_than=old)
    assert (found["old_primary"], found["new_primary"], found["via"]) == (old, new, "proxy")
    assert found["outage_ms"] > 0
    assert found["acknowledged"] >= 30
    assert found["missing"] == 0
    herd.wait_stable()

    spared = next(name for name in herd.data if name not in (old, new))
    with pytest.raises(NoAnswer) as refused:
        herd.ask("/drill", method="POST", body={"kind": "kill"}, name=spared, timeout_s=20.0)
    assert "not_confirmed" in str(refused.value)
    pid = herd.postmaster_pid(new)
    cluster = herd.status()["cluster_name"]
    found = drilled(herd, name=spared, kind="kill", confirm=cluster)
    assert (found["kind"], found["old_primary"]) == ("kill", new)
    assert found["outage_ms"] > 0
    assert found["missing"] == 0
    assert found["new_primary"] == herd.wait_primary()
    herd.wait_stable()
    assert herd.postmaster_pid(new) != pid

    left = herd.query(herd.wait_primary(), "SELECT to_regclass('pgherd.drill')::text")
    assert left == [(None,)]
    told = [herd.ask("/drills", name=name)["drills"] for name in herd.nodes]
    assert [one["kind"] for one in told[0]][-2:] == ["switchover", "kill"]
    herd.wait_for(
        lambda: all(herd.ask("/drills", name=name)["drills"] == told[0] for name in herd.nodes),
        "the same record everywhere",
        deadline_s=DEADLINE_S,
    )
    herd.wait_for(
        lambda: (
            sum(one["what"] == "POST /api/v1/drill" for one in herd.ask("/audit")["audit"]) >= 2
        ),
        "audit record of both",
        deadline_s=DEADLINE_S,
    )


def test_a_cluster_that_people_work_on_is_left_alone(herd: LocalHerd) -> None:
    """A pause refuses it, and nothing is touched."""
    term = herd.status()["epoch"]
    herd.ask("/cluster/pause", method="POST", body={"reason": "night"}, timeout_s=15.0)
    try:
        with pytest.raises(NoAnswer) as refused:
            herd.ask("/drill", method="POST", body={}, timeout_s=20.0)
        assert "night" in str(refused.value)
    finally:
        herd.ask("/cluster/resume", method="POST", timeout_s=15.0)
    assert herd.status()["epoch"] == term
