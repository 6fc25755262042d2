"""Proves the routes for drills: what they begin, what they refuse, and what they show."""

from __future__ import annotations

import hashlib

import pytest
from msgspec.structs import replace

from pgherd.api.guard import ApiToken, Role
from pgherd.ledger import commands as cmd
from pgherd.ledger.drills import LASTS_MS_MAX
from pgherd.ledger.levels import LEVEL
from pgherd.model.drill import DrillKind, DrillState
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Mode, Tags
from pgherd.model.ids import NodeId
from pgherd.model.observation import Server

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
KILL = {"kind": "kill", "confirm": "main"}


@pytest.fixture(autouse=True)
def all_new(herd) -> None:
    """Every program understands all commands."""
    herd.current = replace(herd.current, level=LEVEL)


def token(name: str, role: Role) -> ApiToken:
    return ApiToken(name=name, role=role, sha256=hashlib.sha256(name.encode()).hexdigest())


def refused(client, body: dict | None = None) -> dict:
    answer = client.post("/api/v1/drill", json=body)
    assert answer.status_code in (409, 412), answer.text
    return answer.json()


def test_a_drill_begins_and_ends(herd, client):
    """202 with what is to be followed; then the figures."""
    answer = client.post("/api/v1/drill")
    assert answer.status_code == 202, answer.text
    begun = answer.json()
    assert (begun["kind"], begun["state"], begun["old_primary"]) == ("switchover", "running", "n1")
    assert (begun["via"], begun["node"], begun["outage_ms"]) == ("proxy", "n1", None)
    [drill] = herd.drilled
    assert (drill.id, drill.kind, drill.term) == (begun["id"], DrillKind.SWITCHOVER, 2)
    assert refused(client)["code"] == "busy"
    herd.end_drill(620)
    one = client.get(f"/api/v1/drills/{begun['id']}").json()
    assert (one["state"], one["new_primary"], one["outage_ms"]) == ("done", "n2", 620)
    assert (one["acknowledged"], one["failed"], one["missing"]) == (80, 2, 0)
    assert client.get("/api/v1/drills").json()["drills"] == [one]
    assert client.get("/api/v1/drills/d9").status_code == 404


def test_a_kill_is_asked_for_twice(herd, client):
    """The second time by the cluster's name, and by the right one."""
    for confirm in (None, "other"):
        found = refused(client, {"kind": "kill", "confirm": confirm})
        assert found["code"] == "not_confirmed"
        assert "--confirm main" in found["hint"]
    assert not herd.drilled
    assert client.post("/api/v1/drill", json=KILL).status_code == 202
    assert herd.drilled[0].kind is DrillKind.KILL


@pytest.mark.parametrize("body", [None, KILL])
def test_what_is_not_whole_is_not_drilled(herd, client, body):
    """A pause, maintenance, nobody to take over, no writes, no password: all before anything."""
    whole = herd.current
    herd.must(cmd.Pause("p1", "ann", "night"))
    assert "paused by ann (night)" in refused(client, body)["message"]
    herd.current = whole
    herd.must(cmd.SetMaintenance(node=N3, enabled=True, requested_by="ann", reason="fans"))
    assert refused(client, body)["code"] == "in_maintenance"
    herd.current = whole
    for node in (N2, N3):
        member = replace(herd.current.members[node], tags=Tags(nofailover=True))
        herd.current = replace(herd.current, members={**herd.current.members, node: member})
    found = refused(client, body)
    assert (found["code"], found["message"]) == (
        "no_candidate",
        "n2 is tagged nofailover; n3 is tagged nofailover",
    )
    herd.current = whole
    herd.report_server(N1, state=Server.STOPPED)
    assert refused(client, body)["code"] == "no_candidate"
    herd.everybody(N1)
    herd.drill_problem = OperatorError("postgresql.superuser has no password", "set one")
    assert client.post("/api/v1/drill", json=body).json()["hint"] == "set one"
    assert not herd.drilled
    assert not herd.current.drills


def test_what_comes_in_the_way_before_the_stroke_stops_it(herd, client):
    """A pause, maintenance, mode async, a lost standby: seconds after the drill was taken."""
    assert client.post("/api/v1/drill", json=KILL).status_code == 202
    assert herd.drill_obstacle() == ""
    whole = herd.current
    herd.must(cmd.Pause("p1", "ann", "night"))
    assert "paused by ann (night)" in herd.drill_obstacle()
    herd.current = replace(whole, mode=Mode.ASYNC)
    assert "mode async" in herd.drill_obstacle()
    herd.current = whole
    herd.must(cmd.SetMaintenance(node=N3, enabled=True, requested_by="ann", reason="fans"))
    assert herd.drill_obstacle() == "in maintenance: n3"
    herd.current = whole
    for node in (N2, N3):
        herd.report_server(node, state=Server.STOPPED)
    assert "n2 runs no standby (stopped)" in herd.drill_obstacle()


@pytest.mark.parametrize("commit", ["off", "local"])
def test_commits_that_wait_for_nobody_are_not_killed_away(herd, client, commit):
    """As in mode async; a switchover loses none."""
    herd.current = replace(herd.current, tuning=replace(herd.current.tuning, commit=commit))
    found = refused(client, KILL)
    assert found["code"] == "may_lose"
    assert f"synchronous_commit = {commit}" in found["message"]
    assert client.post("/api/v1/drill").status_code == 202


def test_only_operators_drill(herd, make_client):
    """Viewers see what was measured, and the drill names who asked for it."""
    tokens = (token("v", Role.VIEWER), token("o", Role.OPERATOR))
    client = make_client(herd, tokens=tokens)
    viewer, operator = ({"Authorization": f"Bearer {name}"} for name in "vo")
    assert client.post("/api/v1/drill").status_code == 401
    assert client.post("/api/v1/drill", headers=viewer).status_code == 403
    assert not herd.drilled
    assert client.post("/api/v1/drill", headers=operator).status_code == 202
    [one] = client.get("/api/v1/drills", headers=viewer).json()["drills"]
    assert one["requested_by"].startswith("o ")


def test_one_that_was_worse_warns(herd, client):
    """In the status, until the next one."""
    for outage_ms in (400, 500, 2000):
        assert client.post("/api/v1/drill").status_code == 202
        herd.end_drill(outage_ms)
    [warning] = [
        one for one in client.get("/api/v1/cluster/status").json()["warnings"] if "drill" in one
    ]
    assert "writes stood still for 2000 ms, the median of the 2 before is 500 ms" in warning
    assert client.post("/api/v1/drill").status_code == 202
    herd.end_drill(450)
    warnings = client.get("/api/v1/cluster/status").json()["warnings"]
    assert not any("drill" in one for one in warnings)
    assert client.post("/api/v1/drill").status_code == 202
    herd.end_drill(450, missing=3)
    warnings = client.get("/api/v1/cluster/status").json()["warnings"]
    assert any("3 acknowledged rows are missing" in one for one in warnings)
    assert client.post("/api/v1/drill").status_code == 202
    herd.must(cmd.EndDrill(herd.drilled[-1].id, DrillState.FAILED, "the switchover was refused"))
    warnings = client.get("/api/v1/cluster/status").json()["warnings"]
    assert any("3 acknowledged rows are missing" in one for one in warnings), "it measured nothing"


def test_one_whose_node_died_has_failed(herd, client):
    """Nobody waits for it for ever."""
    begun = client.post("/api/v1/drill").json()
    herd.unix_ms += LASTS_MS_MAX
    found = client.get(f"/api/v1/drills/{begun['id']}").json()
    assert (found["state"], "did not tell within 180 s" in found["text"]) == ("failed", True)
