"""Who may log in, what counts for a role or a node, and trials: on all members of a real herd."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgherd.proof.client import NoAnswer
from pgherd.proof.herd import LocalHerd

SOON_S = 30.0
REJECT = "host postgres postgres all reject"


def change(herd: LocalHerd, name: str, *, trial: str | None = None, **said: Any) -> Any:
    """Ask one node for another configuration."""
    body = {"postgresql": said, "trial": trial}
    return herd.ask("/config?wait=20", name=name, method="PATCH", body=body, timeout_s=30)


def in_force(herd: LocalHerd) -> Any:
    return herd.ask("/config")


def shown(herd: LocalHerd, parameter: str) -> dict[str, str]:
    """A parameter on every node."""
    found = {name: herd.query(name, f"SHOW {parameter}") for name in herd.nodes}
    return {name: str(row[0]) for name, [row] in found.items()}


def until_shown(herd: LocalHerd, parameter: str, wanted: dict[str, str]) -> None:
    herd.wait_for(
        lambda: shown(herd, parameter) == wanted, f"{parameter} as {wanted}", deadline_s=SOON_S
    )


def lets_in(herd: LocalHerd, name: str) -> bool:
    """Whether a node's server takes a session by TCP, as far as pg_hba.conf goes."""
    try:
        with psycopg.connect(herd.dsn_node(name), connect_timeout=5):
            return True
    except psycopg.OperationalError as error:
        if "pg_hba.conf" not in str(error):
            raise
        return False


def test_who_may_log_in_is_the_clusters_to_say(herd: LocalHerd) -> None:
    """Refused with line and reason, taken up by all, kept in versions; replication goes on.

    What would lock people out goes back by itself when nobody confirms it.
    """
    primary = herd.wait_primary()
    asked = next(name for name in herd.nodes if name != primary)
    before = in_force(herd)["version"]
    with pytest.raises(NoAnswer) as refusal:
        change(herd, asked, hba=["host all app 10.0.0.0/8 md5", "host all all all trsut"])
    assert refusal.value.status == 422
    assert "hba line 2" in str(refusal.value)
    assert "trsut" in str(refusal.value)
    assert in_force(herd)["version"] == before

    done = change(herd, asked, hba=[REJECT], hba_whole=True, trial="1s")
    assert done["version"] == before + 1
    herd.wait_for(
        lambda: in_force(herd)["version"] == before + 2, "the way back", deadline_s=SOON_S
    )
    [marked] = [v for v in herd.ask("/config/history")["versions"] if v["version"] == before + 1]
    assert marked["failed"] == "nobody confirmed it in time"
    for name in herd.nodes:
        herd.wait_for(lambda name=name: lets_in(herd, name), f"{name} lets in", deadline_s=SOON_S)  # type: ignore[misc] # binds it

    change(herd, asked, hba=[REJECT], hba_whole=True)
    assert [lets_in(herd, name) for name in herd.nodes] == [False] * 3
    body = {"version": before}
    herd.ask("/config/rollback?wait=20", name=asked, method="POST", body=body, timeout_s=30)
    assert [lets_in(herd, name) for name in herd.nodes] == [True] * 3
    herd.wait_stable(60)


def test_what_counts_for_a_role_follows_the_role(herd: LocalHerd) -> None:
    """The primary's values move with it; one node's stay with the node; a trial that fails ends.

    A failover in its trial takes a version back at once; a confirmed one stays.
    """
    primary = herd.wait_primary()
    standby, last = (name for name in herd.nodes if name != primary)
    change(
        herd,
        standby,
        parameters={"work_mem": "5MB"},
        primary={"work_mem": "6MB"},
        replica={"work_mem": "7MB"},
        nodes={last: {"work_mem": "9MB"}},
    )
    until_shown(herd, "work_mem", {primary: "6MB", standby: "7MB", last: "9MB"})
    herd.switchover(to=standby)
    herd.wait_primary(other_than=primary)
    until_shown(herd, "work_mem", {primary: "7MB", standby: "6MB", last: "9MB"})
    herd.wait_stable(60)

    kept = change(herd, last, parameters={"work_mem": "4MB"}, trial="1h")["version"]
    assert in_force(herd)["trial_until"]
    with pytest.raises(NoAnswer) as refusal:
        change(herd, last, parameters={"work_mem": "3MB"})
    assert (refusal.value.status, "config confirm" in str(refusal.value)) == (409, True)
    herd.ask("/config/confirm", method="POST", body={})
    assert in_force(herd)["trial_until"] is None

    clean = {"parameters": {"work_mem": None}, "primary": {"work_mem": None}}
    clean |= {"replica": {"work_mem": None}, "nodes": {last: {"work_mem": None}}}
    bad = change(herd, last, trial="1h", **clean)["version"]
    assert bad == kept + 1
    herd.kill_postmaster(standby)
    herd.wait_for(
        lambda: in_force(herd)["version"] == bad + 1,
        "the version of before the failover",
        deadline_s=SOON_S,
    )
    assert "the primary failed" in in_force(herd)["reason"]
    assert in_force(herd)["postgresql"]["nodes"] == {last: {"work_mem": "9MB"}}
    herd.wait_stable(60)
    change(herd, last, **clean)
    until_shown(herd, "work_mem", dict.fromkeys(herd.nodes, "4MB"))
