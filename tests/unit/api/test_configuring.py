"""Proves the routes of the configuration: what they plan, refuse, commit, and wait for."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from pgherd.ledger.levels import LEVEL
from pgherd.ledger.pgconfig import newest
from pgherd.model.pgconfig import ConfigChecked, Pending

PATH = "/api/v1/config"
HAS = (100, 8, 12, 0, 64)


@pytest.fixture(autouse=True)
def upgraded(herd):
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)
    server_says(herd)


def server_says(herd, **changes):
    contexts = {"max_connections": "postmaster", "shared_buffers": "postmaster", "work_mem": "user"}
    running = {"max_connections": "100", "work_mem": "4MB"}
    herd.checked = ConfigChecked(contexts=contexts, running=running, **changes)


def body(_more=None, **parameters):
    return {"postgresql": {"parameters": parameters}, **(_more or {})}


def told(herd, version):
    """Every node says that its server has a version."""
    for node, heard in herd.heard.items():
        server = msgspec.structs.replace(heard.report.server, config=version, matched=HAS)
        report = msgspec.structs.replace(heard.report, server=server)
        herd.heard[node] = msgspec.structs.replace(heard, report=report)


async def members_hear(herd):
    await asyncio.sleep(0.02)
    told(herd, newest(herd.current).version)


def test_patch_merges_and_null_deletes(herd, client):
    herd.react = members_hear
    first = client.patch(PATH, json=body(work_mem="8MB", max_connections=120))
    assert (first.status_code, first.json()["status"]) == (200, "done"), first.text
    second = client.patch(PATH, json=body(work_mem=None, jit=False))
    assert second.json()["version"] == 2
    found = client.get(PATH).json()
    assert found["postgresql"]["parameters"] == {"max_connections": "120", "jit": "off"}
    assert [one["is_applied"] for one in found["nodes"]] == [True] * 3
    assert herd.asked.names == ("work_mem", "max_connections")
    put = client.put(PATH, json=body(_more={"reason": "clean"}, work_mem="9MB"))
    assert put.json()["version"] == 3
    newest_, *_, oldest = client.get(f"{PATH}/history").json()["versions"]
    assert (newest_["reason"], newest_["author"]) == ("clean", "anybody from testclient")
    assert newest_["postgresql"]["parameters"] == {"work_mem": "9MB"}
    back = client.post(f"{PATH}/rollback", json={"version": 1})
    assert back.json()["version"] == 4
    assert client.get(PATH).json()["restores"] == 1
    assert newest(herd.current).parameters == oldest["postgresql"]["parameters"]


def test_it_says_when_not_all_were_told(herd, client):
    answer = client.patch(f"{PATH}?wait=0", json=body(work_mem="8MB"))
    assert (answer.status_code, answer.json()["status"]) == (202, "accepted")
    assert not any(one["is_applied"] for one in answer.json()["nodes"])
    again = client.patch(f"{PATH}?wait=0", json=body(work_mem="8MB"))
    assert (again.status_code, again.json()["status"]) == (200, "done")
    assert newest(herd.current).version == 1


@pytest.mark.parametrize(
    ("value", "order"),
    [
        (120, ["restart n2", "restart n3", "switchover n1"]),
        (50, ["switchover n1", "restart n1", "restart n2", "restart n3"]),
    ],
)
def test_the_plan_has_the_order_and_changes_nothing(herd, client, value, order):
    answer = client.patch(f"{PATH}?dry_run=1", json=body(max_connections=value, work_mem="8MB"))
    found = answer.json()
    assert (found["status"], found["version"]) == ("planned", 1)
    assert [f"{one['action']} {one['node']}" for one in found["steps"][3:]] == order
    effects = {one["name"]: (one["effect"], one["running"]) for one in found["changes"]}
    assert effects == {"max_connections": ("restart", "100"), "work_mem": ("reload", "4MB")}
    assert newest(herd.current).version == 0
    assert not herd.submitted


def test_what_is_refused_changes_nothing(herd, client):
    owned = client.patch(PATH, json=body(fsync="off", listen_addresses="*"))
    assert owned.status_code == 422
    assert "fsync belongs to pgherd" in owned.json()["message"]
    assert "set node.address" in owned.json()["message"]
    assert client.patch(PATH, json=body(synchronous_commit="off")).status_code == 422
    stale = client.patch(PATH, json=body(_more={"expected_version": 7}, work_mem="8MB"))
    assert (stale.status_code, stale.json()["code"]) == (409, "stale")
    server_says(herd, problems=("work_mem = 1: out of range",))
    bad = client.patch(PATH, json=body(work_mem="1"))
    assert (bad.status_code, bad.json()["details"]["problems"]) == (
        422,
        ["work_mem = 1: out of range"],
    )
    herd.checked = None
    unchecked = client.patch(PATH, json=body(work_mem="8MB"))
    assert (unchecked.status_code, unchecked.json()["code"]) == (503, "unchecked")
    assert client.post(f"{PATH}/rollback", json={"version": 9}).status_code == 404
    assert not herd.submitted


def test_roles_nodes_and_lines_are_parts_of_their_own(herd, client):
    """A part that is not named stays; what a change does to each is planned by its name."""
    herd.react = members_hear
    said = {
        "parameters": {"work_mem": "5MB"},
        "primary": {"work_mem": "6MB"},
        "nodes": {"n2": {"shared_buffers": "1GB"}, "n1": {"work_mem": "9MB"}},
        "hba": ["# ours", "", "host all app\t10.0.0.0/8 md5  "],
    }
    planned = client.patch(f"{PATH}?dry_run=1", json={"postgresql": said}).json()
    assert [(one["name"], one["new"], one["effect"]) for one in planned["changes"]] == [
        ("work_mem", "5MB", "reload"),
        ("primary: work_mem", "6MB", "reload"),
        ("n1: work_mem", "9MB", "reload"),
        ("n2: shared_buffers", "1GB", "restart"),
        ("hba", "# ours", "reload"),
        ("hba", "host all app 10.0.0.0/8 md5", "reload"),
    ]
    assert [one["node"] for one in planned["steps"] if one["action"] == "restart"] == ["n2"]
    del said["nodes"]["n2"]
    first = client.patch(PATH, json={"postgresql": said})
    assert first.status_code == 200, first.text
    assert herd.asked.others == {"primary": {"work_mem": "6MB"}, "on n1": {"work_mem": "9MB"}}
    assert herd.asked.access.hba == ("# ours", "host all app 10.0.0.0/8 md5")
    put = {"parameters": {"jit": "off"}, "hba_whole": True, "nodes": {}}
    assert client.put(PATH, json={"postgresql": put}).status_code == 200
    found = client.get(PATH).json()["postgresql"]
    assert (found["parameters"], found["primary"]) == ({"jit": "off"}, {"work_mem": "6MB"})
    assert (len(found["hba"]), found["hba_whole"], found["nodes"]) == (2, True, {})
    unset = client.patch(PATH, json={"postgresql": {"primary": {"work_mem": None}, "hba": []}})
    assert unset.json()["changes"][0]["new"] is None
    assert herd.asked.access.hba == ()
    unknown = client.patch(PATH, json={"postgresql": {"nodes": {"n9": {"jit": "on"}}}})
    assert (unknown.status_code, "n9" in unknown.json()["message"]) == (422, True)
    apart = client.patch(PATH, json={"postgresql": {"primary": {"max_connections": 9}}})
    assert (apart.status_code, "the same on all" in apart.json()["message"]) == (422, True)
    owned = client.patch(PATH, json={"postgresql": {"replica": {"fsync": "off"}}})
    assert (owned.status_code, "belongs to pgherd" in owned.json()["message"]) == (422, True)


def test_a_trial_is_confirmed_or_keeps_others_out(herd, client):
    """It says until when; nobody sets anything else meanwhile; a rollback ends it as well."""
    tried = client.patch(f"{PATH}?wait=0", json=body(_more={"trial": "5m"}, work_mem="8MB"))
    assert tried.status_code == 202, tried.text
    assert newest(herd.current).trial.streamed == ("n2", "n3")
    assert client.get(PATH).json()["trial_until"]
    [warning] = client.get("/api/v1/cluster/status").json()["warnings"]
    assert "version 1 of the configuration is on trial until" in warning
    other = client.patch(PATH, json=body(work_mem="9MB"))
    assert (other.status_code, other.json()["code"]) == (409, "on_trial")
    assert "config confirm" in other.json()["hint"]
    assert client.post(f"{PATH}/confirm", json={"version": 7}).status_code == 409
    kept = client.post(f"{PATH}/confirm", json={"version": 1}).json()
    assert (kept["version"], kept["trial_until"]) == (1, None)
    assert client.post(f"{PATH}/confirm", json={}).json()["code"] == "stale"
    client.patch(f"{PATH}?wait=0", json=body(_more={"trial": "5m"}, work_mem="9MB"))
    back = client.post(f"{PATH}/rollback?wait=0", json={"version": 1})
    assert (back.status_code, newest(herd.current).trial) == (202, None)
    wrong = client.patch(PATH, json=body(_more={"trial": "soon"}, work_mem="9MB"))
    assert wrong.status_code == 422


def test_nodes_show_what_waits_for_a_restart(herd, client):
    assert client.get("/api/v1/nodes/n2").json()["pending_restart"] is None
    heard = herd.heard["n2"]
    waits = (Pending("max_connections", "100", "120"),)
    server = msgspec.structs.replace(heard.report.server, matched=HAS, pending=waits)
    report = msgspec.structs.replace(heard.report, server=server)
    herd.heard["n2"] = msgspec.structs.replace(heard, report=report)
    found = client.get("/api/v1/nodes/n2").json()["pending_restart"]
    assert found == {"max_connections": {"old": "100", "new": "120"}}
