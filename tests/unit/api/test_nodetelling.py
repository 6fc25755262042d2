"""What nodes are asked about themselves goes to the node that is meant, with the role that it
needs; a file with mistakes is an error that has every one of them; ids of orders are traces."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from pgherd.api.guard import ApiToken, Role
from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model.ids import NodeId
from pgherd.model.nodelog import LevelWish, LogAsked, LogTold, Source
from pgherd.model.reloaded import Mistake, Reloaded
from pgherd.model.vitals import Memory, PeerSeen, Vitals

N2 = NodeId("n2")
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def token(name: str, role: Role) -> ApiToken:
    return ApiToken(name, role, hashlib.sha256(name.encode()).hexdigest())


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


@pytest.mark.parametrize(
    ("path", "node", "code"),
    [
        ("/api/v1/config/reload", "n1", 200),
        ("/reload", "n1", 202),
        ("/api/v1/nodes/n2/config/reload", "n2", 200),
    ],
)
def test_a_reload_says_what_became_of_each_key(herd, client, path, node, code):
    herd.own.reloaded = Reloaded(
        status="reloaded",
        changes_detected=2,
        applied=("log.level",),
        needs_restart=("raft.port",),
        pending_parameters=("shared_buffers",),
    )
    answer = client.post(path)
    assert answer.status_code == code
    assert answer.json() == {
        "node": node,
        "status": "reloaded",
        "changes_detected": 2,
        "applied": ["log.level"],
        "needs_restart": ["raft.port"],
        "rejected": [],
        "pending_parameters": ["shared_buffers"],
    }
    assert herd.own.asked[0][0] == node


def test_a_reload_that_changes_nothing_is_200_for_patronis_clients_too(client):
    assert client.post("/reload").status_code == 200


def test_a_file_with_mistakes_is_an_error_with_all_of_them(herd, client):
    mistake = Mistake("f.yaml:3", "raft.prot", "is not a key of pgherd", "did you mean port?")
    herd.own.reloaded = Reloaded(status="rejected", rejected=(mistake,))
    answer = client.post("/api/v1/config/reload")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_configuration")
    assert "f.yaml:3: raft.prot: is not a key of pgherd" in answer.json()["message"]
    details = answer.json()["details"]
    assert details["rejected"][0]["hint"] == "did you mean port?"
    assert details["applied"] == details["needs_restart"] == []


def test_a_node_tells_how_it_is(herd, client):
    peers = (
        PeerSeen("n1", "raft", is_up=True, rtt_ms=0.51234),
        PeerSeen("n3", "api", is_up=False, failures=2, problem="refused"),
    )
    memory = Memory(100, 40, swap_size_bytes=7, oom_kills=9)
    herd.own.vitals = Vitals(memory, peers, oom_kills=1, process_bytes={"agent": 5})
    answer = client.get("/api/v1/nodes/n2/vitals").json()
    assert answer["memory"]["available_bytes"] == 40
    assert answer["memory"]["oom_kills_last_hour"] == 1
    assert [one["rtt_ms"] for one in answer["peers"]] == [0.512, None]
    assert answer["process_bytes"] == {"agent": 5}
    herd.own.vitals = Vitals()
    assert client.get("/api/v1/nodes/n2/vitals").json()["memory"] is None


def test_who_is_silent_is_not_invented(herd, client):
    herd.own.silent = {N2}
    for method, path in (
        ("GET", "/api/v1/nodes/n2/vitals"),
        ("GET", "/api/v1/nodes/n2/logs"),
        ("GET", "/api/v1/nodes/n2/log-level"),
        ("POST", "/api/v1/nodes/n2/config/reload"),
    ):
        answer = client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (503, "unreachable"), path
        missing = client.request(method, path.replace("n2", "nobody"))
        assert missing.status_code == 404, path


def test_log_lines_need_a_viewer_and_those_of_postgresql_an_operator(herd, make_client):
    herd.own.log = LogTold(("one", "two"), "ab:2", skipped=True)
    tokens = (token("look", Role.VIEWER), token("work", Role.OPERATOR))
    client = make_client(herd, tokens=tokens)
    path = "/api/v1/nodes/n3/logs"
    assert client.get(path).status_code == 401
    answer = client.get(path, params={"lines": 5, "cursor": "ab:0"}, headers=bearer("look"))
    assert answer.json() == {
        "node": "n3",
        "source": "agent",
        "lines": ["one", "two"],
        "cursor": "ab:2",
        "skipped": True,
    }
    postgres = {"source": "postgres"}
    assert client.get(path, params=postgres, headers=bearer("look")).status_code == 403
    assert client.get(path, params=postgres, headers=bearer("work")).status_code == 200
    assert [asked for _, asked in herd.own.asked] == [
        LogAsked(lines=5, cursor="ab:0"),
        LogAsked(source=Source.POSTGRES),
    ]
    for bad in ({"lines": 0}, {"lines": 1001}, {"source": "x"}, {"cursor": "x" * 65}):
        assert client.get(path, params=bad, headers=bearer("work")).status_code == 422, bad


def test_a_level_is_set_for_a_while(herd, client):
    path = "/api/v1/nodes/n2/log-level"
    body = {"level": "debug", "for": "10m"}
    answer = client.put(path, json=body)
    assert answer.json() == {
        "node": "n2",
        "level": "debug",
        "configured": "info",
        "seconds_left": 600.0,
    }
    [(_, wish)] = herd.own.asked
    assert isinstance(wish, LevelWish)
    assert (wish.level, wish.for_ms) == ("debug", 600_000)
    for bad in ({"level": "loud"}, {"level": "info", "for": "10"}, {"level": "info", "for": "30d"}):
        assert client.put(path, json=bad).status_code == 422, bad


def test_an_order_is_found_by_the_trace_of_its_request(herd, client):
    """Where this cluster began the trace its id is the order's; a caller's may give many."""
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)
    began = client.post("/api/v1/nodes/n2/restart", json={})
    assert began.json()["id"] == began.headers["traceparent"].split("-")[1]
    ids = []
    for node in ("n1", "n3"):
        path = f"/api/v1/nodes/{node}/reload"
        answer = client.post(path, json={}, headers={"traceparent": PARENT})
        assert answer.headers["traceparent"].split("-")[1] == PARENT.split("-")[1]
        assert answer.headers["traceparent"] != PARENT
        ids.append(answer.json()["id"])
    assert ids[0] != ids[1]
    assert {one[:16] for one in ids} == {PARENT.split("-")[1][:16]}
    submitted = [one.id for one in herd.submitted if isinstance(one, cmd.AskWork)]
    assert submitted[1:] == ids
    assert client.get(f"/api/v1/actions/{ids[0][:20]}").json()["id"] == ids[0]
    assert client.get(f"/api/v1/actions/{ids[0][:16]}").status_code == 404, "two begin so"
