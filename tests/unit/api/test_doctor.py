"""A check-up asks every member, tells who did not answer, and judges all by the one table."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from pgherd.api.guard import ApiToken, Role
from pgherd.model.checkup import Told
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId
from pgherd.plan.doctor.checks import BY_ID

N2, N3 = NodeId("n2"), NodeId("n3")
PATH = "/api/v1/doctor"


def of(found: dict[str, Any], check: str, node: str) -> dict[str, Any]:
    [one] = [f for f in found["findings"] if (f["check"], f["node"]) == (check, node)]
    return dict(one)


def test_all_members_are_asked_and_what_is_worst_comes_first(herd, client):
    herd.own.told = Told(rate_limit=0)
    found = client.get(PATH).json()
    assert sorted(herd.own.asked) == [("n1", False), ("n2", False), ("n3", False)]
    order = ["critical", "warning", "advice", "unknown", "ok"]
    places = [order.index(one["status"]) for one in found["findings"]]
    assert places == sorted(places)
    assert sum(found["counts"].values()) == len(found["findings"])
    limit = of(found, "security.rate_limit", "n2")
    row = BY_ID["security.rate_limit"]
    assert (limit["status"], limit["means"]) == ("advice", row.means)
    assert limit["fix"] == row.fix.replace("{node}", "n2")
    assert of(found, "pg.fsync", "n1") == {
        "check": "pg.fsync",
        "node": "n1",
        "status": "unknown",
        "text": "it does not answer",
        "means": BY_ID["pg.fsync"].means,
        "fix": "",
    }
    assert of(found, "herd.primary", "")["text"] == "n1 leads and acknowledges commits"
    assert "n2 would be elected" in of(found, "herd.failover_ready", "")["text"]


def test_who_does_not_answer_is_told_and_nothing_of_it_is_well(herd, client):
    herd.own.silent.add(N3)
    found = client.get(PATH).json()
    assert found["unreached"] == {"n3": "no connection to n3"}
    assert of(found, "herd.nodes_answer", "")["status"] == "warning"
    of_n3 = [one for one in found["findings"] if one["node"] == "n3"]
    assert {one["status"] for one in of_n3} == {"unknown"}
    assert len(of_n3) == sum(check.look is not None for check in BY_ID.values())


def test_one_node_only_and_briefly(herd, client):
    found = client.get(PATH, params={"node": "2", "quick": "true"}).json()
    assert herd.own.asked == [("n2", True)]
    assert {one["node"] for one in found["findings"]} == {"n2"}
    assert found["quick"]
    assert client.get(PATH, params={"node": "n9"}).status_code == 404


def test_a_node_that_knows_no_members_looks_at_itself(herd, client):
    """One that has lost its store has no ledger, and that is what has to be told."""
    herd.current = Facts(cluster="main")
    found = client.get(PATH).json()
    assert herd.own.asked == [("n1", False)]
    assert of(found, "agent.running", "n1")["status"] == "ok"
    herd.own.asked.clear()
    assert client.get(PATH, params={"node": "n1"}).status_code == 200
    assert herd.own.asked == [("n1", False)]


def test_the_facts_themselves_are_an_operators(herd, client):
    herd.own.silent.add(N3)
    path = "/api/v1/nodes/n2/checkup"
    found = client.get(path).json()
    assert found["facts"]["version"] == "9.9"
    assert found["facts"]["problems"] == {"database": "it does not answer"}
    assert client.get("/api/v1/nodes/n3/checkup").json()["code"] == "unreachable"


@pytest.mark.parametrize(("role", "code"), [(Role.VIEWER, 403), (Role.OPERATOR, 200)])
def test_a_viewer_sees_findings_and_not_facts(herd, make_client, role, code):
    token = ApiToken("who", role, hashlib.sha256(b"who").hexdigest())
    client = make_client(herd, tokens=(token,))
    headers = {"Authorization": "Bearer who"}
    assert client.get(PATH, headers=headers).status_code == 200
    assert client.get("/api/v1/nodes/n2/checkup", headers=headers).status_code == code
    assert client.get(PATH).status_code == 401
