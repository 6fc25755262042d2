"""Proves each route over a herd of real values: status codes, bodies, errors, and their effect."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from pgherd.api.herd import ProxySeen
from pgherd.ledger import commands as cmd
from pgherd.model.facts import Handover
from pgherd.model.ids import NodeId
from pgherd.model.observation import Server
from pgherd.telemetry.metrics import Metrics

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


# --- reads ---------------------------------------------------------------------------------------


def test_status_and_nodes(client):
    """The two answers that everything else stands on."""
    status = client.get("/api/v1/cluster/status").json()
    assert status["primary_node_id"] == "n1"
    assert status["raft_leader"] == "n2"
    assert status["timestamp"] == "2023-11-14T22:13:20.000Z"
    nodes = client.get("/api/v1/nodes").json()["nodes"]
    assert [node["node_id"] for node in nodes] == ["n1", "n2", "n3"]
    assert client.get("/api/v1/nodes/n2").json() == nodes[1]
    assert client.get("/api/v1/nodes/2").json() == nodes[1]


def test_this_daemon(client):
    """Health of the daemon that answers."""
    found = client.get("/api/v1/health").json()
    assert (found["status"], found["node"], found["role"]) == ("ok", "n1", "primary")
    assert (found["uptime_seconds"], found["version"]) == (77, "0.1.0")


def test_cluster_health_is_503_without_writes(herd, client):
    """The status code tells whether commits are acknowledged."""
    assert client.get("/api/v1/cluster/health").status_code == 200
    herd.report_server(N1, state=Server.STOPPED)
    answer = client.get("/api/v1/cluster/health")
    assert answer.status_code == 503
    assert answer.json()["cluster_status"] == "down"


def test_consistent_reads_ask_the_quorum(herd, client):
    """`consistent=1` is an error without a quorum; the plain read still answers."""
    assert client.get("/api/v1/cluster/status?consistent=1").status_code == 200
    herd.has_quorum = False
    answer = client.get("/api/v1/nodes?consistent=1")
    assert (answer.status_code, answer.json()["code"]) == (503, "no_quorum")
    assert client.get("/api/v1/nodes").status_code == 200
    assert client.get("/api/v1/cluster/status").json()["has_quorum"] is False


def test_history_explain_and_consensus(client):
    """The remaining reads."""
    reigns = client.get("/api/v1/history").json()["reigns"]
    assert [one["epoch"] for one in reigns] == [1, 2]
    assert [one["old_primary"] for one in reigns] == [None, "n1"]
    assert "rule 202" in client.get("/api/v1/explain").json()["why_primary"]
    state = client.get("/raft/state").json()
    assert (state["state"], state["raft_term"], state["leader"]) == ("follower", 7, "n2")
    peers = client.get("/raft/peers").json()["peers"]
    assert [peer["suffrage"] for peer in peers] == ["voter"] * 3
    assert [peer["is_leader"] for peer in peers] == [False, True, False]


def test_a_node_is_tried_from_here(client):
    """`/nodes/{id}/health` opens a connection to each port, and says which did not answer."""
    found = client.get("/api/v1/nodes/n2/health").json()
    assert found["tried_from"] == "n1"
    assert not found["is_reachable"]
    assert {one["channel"] for one in found["channels"]} == {
        "raft",
        "api",
        "postgresql",
        "proxy",
        "proxy replica",
    }
    assert all(one["problem"] for one in found["channels"] if not one["is_reachable"])


def test_metrics_come_from_telemetry(herd, make_client):
    """/metrics renders what is known now."""
    client = make_client(herd, metrics=Metrics(node=N1, version="0.1.0"))
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'pgherd_cluster_primary{node="n1"} 1.0' in answer.text
    assert "pgherd_cluster_nodes_healthy 3.0" in answer.text


def test_the_contract_is_served(client):
    """OpenAPI builds, without two operations of one name."""
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/primary", "/api/v1/cluster/switchover", "/api/v1/join", "/metrics"} <= set(paths)


# --- health checks -------------------------------------------------------------------------------

CHECKS = ["/primary", "/leader", "/read-write", "/replica", "/read-only"]


def codes(client) -> dict[str, int]:
    return {path: client.get(path).status_code for path in CHECKS}


def test_checks_of_a_primary_and_a_replica(herd, client):
    """Each role answers 200 where it is served and 503 elsewhere."""
    good = {"/primary": 200, "/leader": 200, "/read-write": 200, "/replica": 503, "/read-only": 200}
    assert codes(client) == good
    herd.node = N2
    assert codes(client) == {
        "/primary": 503,
        "/leader": 503,
        "/read-write": 503,
        "/replica": 200,
        "/read-only": 200,
    }


def test_a_replica_whose_operator_wants_no_reads_there(herd, client):
    """Balancers leave it out; it is a healthy node all the same, and status says why."""
    herd.node = N2
    heard = herd.heard[N2]
    herd.heard[N2] = replace(heard, report=replace(heard.report, noloadbalance=True))
    assert (codes(client)["/replica"], codes(client)["/read-only"]) == (503, 503)
    assert client.get("/readiness?lag=16MB").status_code == 200
    shown = {one["name"]: one for one in client.get("/api/v1/nodes").json()["nodes"]}
    assert (shown["n2"]["tags"]["noloadbalance"], shown["n2"]["is_healthy"]) == (True, True)
    assert not shown["n3"]["tags"]["noloadbalance"]


def test_checks_of_a_primary_without_a_reign(herd, client):
    """A server that is a primary while the ledger elects is none for clients."""
    herd.must(cmd.Begin(expected=herd.current.term, elector=N2, rule=202, reason="suspected"))
    assert set(codes(client).values()) == {503}
    assert client.get("/liveness").status_code == 200
    assert client.get("/readiness").status_code == 503


@pytest.mark.parametrize(
    ("query", "code"), [("lag=8", 200), ("lag=7", 503), ("lag=16MB", 200), ("lag=far", 400)]
)
def test_replica_within_a_lag(herd, client, query, code):
    """`?lag=` in bytes or with a unit; nonsense is a bad request."""
    herd.node = N2
    assert client.get(f"/replica?{query}").status_code == code


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_checks_answer_other_methods(herd, client, method):
    """Load balancers ask with HEAD and OPTIONS too."""
    assert client.request(method, "/primary").status_code == 200
    herd.node = N3
    assert client.request(method, "/primary").status_code == 503


def test_health_says_why(herd, client):
    """200 only when this node serves its role; the body names the reason."""
    assert client.get("/health").json()["status"] == "ok"
    herd.proxy_seen = None
    assert client.get("/health").status_code == 200
    herd.report_server(N3, state=Server.PRIMARY, names="")
    answer = client.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "split_brain")


@pytest.mark.parametrize("engine", ["uvloop", "pump", "uring"])
def test_health_names_the_engine(herd, client, engine):
    """Who carries the bytes of new sessions, once the proxy has said so."""
    assert client.get("/health").json()["proxy_engine"] is None
    herd.proxy_seen = ProxySeen(healthy=True, backends={"primary": (N1,)}, engine=engine)
    assert client.get("/health").json()["proxy_engine"] == engine
    herd.proxy_seen = None
    assert client.get("/health").json()["proxy_engine"] is None


def test_liveness_needs_a_recent_look(herd, client):
    """An agent that stopped looking at its own node is not alive."""
    assert client.get("/liveness").status_code == 200
    herd.clock_ms += 60_000
    assert client.get("/liveness").status_code == 503


# --- changes -------------------------------------------------------------------------------------


async def hand_over(herd) -> None:
    """What the deciders would do with the wish, through the real ledger."""
    await asyncio.sleep(0.03)
    wish = herd.current.switchover
    handover = Handover(switchover=wish.id, candidate=wish.candidate or N3)
    reason = f"switchover to {handover.candidate}"
    herd.elect(handover.candidate, rule=603, reason=reason, handover=handover)
    herd.everybody(handover.candidate)


async def refuse(herd) -> None:
    wish = herd.current.switchover
    herd.must(cmd.EndSwitchover(id=wish.id, outcome="n2 is 3 GB behind"))


async def undo(herd) -> None:
    """The handover begins, takes too long, and the old leader stays."""
    handover = Handover(switchover=herd.current.switchover.id, candidate=N2)
    term = herd.current.term
    herd.must(
        cmd.Begin(expected=term, elector=N2, rule=603, reason="switchover", handover=handover)
    )
    await asyncio.sleep(0.05)
    herd.elect(N1, rule=302, reason="n2 did not follow in time")


def test_switchover_waits_for_its_end(herd, client):
    """The answer names the new primary; the ledger has it."""
    herd.react = hand_over
    answer = client.post("/api/v1/cluster/switchover", json={"candidate": "n2"})
    assert answer.status_code == 200
    found = answer.json()
    assert (found["status"], found["old_primary"], found["new_primary"]) == ("done", "n1", "n2")
    assert found["epoch"] == herd.current.term == 3
    assert herd.submitted[0].requested_by == "anybody from testclient"


def test_switchover_to_the_best_candidate(herd, client):
    """Without a body nobody is named."""
    herd.react = hand_over
    assert client.post("/api/v1/cluster/switchover").json()["new_primary"] == "n3"
    assert herd.submitted[0].candidate is None


def test_switchover_without_waiting(herd, client):
    """`wait=0` answers 202 as soon as the wish is committed."""
    answer = client.post("/api/v1/cluster/switchover?wait=0", json={"to": "n2"})
    assert (answer.status_code, answer.json()["status"]) == (202, "accepted")
    assert herd.current.switchover.candidate == N2


@pytest.mark.parametrize(
    ("reaction", "said"), [(refuse, "3 GB behind"), (undo, "did not follow in time")]
)
def test_an_undone_switchover_is_412_with_the_reason(herd, client, reaction, said):
    """The old primary stays: the answer repeats what the deciders noted."""
    herd.react = reaction
    answer = client.post("/api/v1/cluster/switchover", json={"candidate": "n2"})
    assert answer.status_code == 412
    assert answer.json()["code"] == "switchover_undone"
    assert said in answer.json()["message"]
    assert herd.current.leader.node == N1


def test_a_switchover_that_takes_too_long_times_out(herd, client):
    """The wish stays in the ledger, and the answer says so."""
    answer = client.post("/api/v1/cluster/switchover?wait=0.05", json={"candidate": "n2"})
    assert (answer.status_code, answer.json()["code"]) == (503, "timed_out")
    assert herd.current.switchover is not None


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"candidate": "n1"}, 409, "already_leader"),
        ({"candidate": "n9"}, 404, "unknown_node"),
        ({"candidate": 5}, 422, "invalid"),
        ({"whom": "n2"}, 422, "invalid"),
        ([], 422, "invalid"),
    ],
)
def test_switchovers_that_cannot_be(herd, client, body, status, code):
    """Nothing is committed, and the form of the error is always the same."""
    answer = client.post("/api/v1/cluster/switchover", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert set(answer.json()) == {"status", "code", "message", "details", "hint"}
    assert herd.current.switchover is None


def test_a_second_switchover_is_busy(herd, client):
    """One at a time."""
    client.post("/api/v1/cluster/switchover?wait=0", json={"candidate": "n2"})
    answer = client.post("/api/v1/cluster/switchover", json={"candidate": "n3"})
    assert (answer.status_code, answer.json()["code"]) == (409, "busy")


def test_changes_need_a_quorum(herd, client):
    """Without one nothing is asked for."""
    herd.has_quorum = False
    answer = client.post("/api/v1/cluster/switchover", json={"candidate": "n2"})
    assert (answer.status_code, answer.json()["code"]) == (503, "no_quorum")
    assert herd.submitted == []


async def fail_over(herd) -> None:
    herd.elect(N2, rule=201, reason="ordered")
    herd.everybody(N2)


def test_failover_of_a_healthy_primary_needs_force(herd, client):
    """A healthy primary is left alone unless the operator insists."""
    answer = client.post("/api/v1/failover", json={"candidate": "n2"})
    assert (answer.status_code, answer.json()["code"]) == (409, "primary_healthy")
    assert herd.submitted == []
    herd.react = fail_over
    found = client.post("/api/v1/failover", json={"candidate": "n2", "force": True})
    assert (found.status_code, found.json()["new_primary"]) == (200, "n2")


def test_failover_of_a_dead_primary(herd, client):
    """No force is needed when no commit is acknowledged; the old path works too."""
    herd.report_server(N1, state=Server.STOPPED)
    herd.react = fail_over
    assert client.post("/api/v1/cluster/failover").json()["new_primary"] == "n2"


# --- edges ---------------------------------------------------------------------------------------


def test_unknown_paths_and_methods(client):
    """404 and 405 in the same form, with what is possible."""
    answer = client.get("/api/v2/anything")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    answer = client.put("/primary")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


def test_request_ids_go_in_and_out(client):
    """A caller's id is repeated if it is harmless, else replaced; errors carry one too."""
    given = client.get("/liveness", headers={"X-Request-ID": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    odd = client.get("/nowhere", headers={"X-Request-ID": "a b"})
    assert len(odd.headers["x-request-id"]) == 32
    assert f"-{odd.headers['x-request-id']}-" in odd.headers["traceparent"]


def test_bodies_are_limited(client):
    """413 with a length and without, in our form."""
    path = "/api/v1/cluster/switchover"
    answer = client.post(path, content=b" " * 70_000)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "x-request-id" in answer.headers
    pieces = (b" " * 10_000 for _ in range(10))
    answer = client.post(path, content=pieces, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_a_bug_is_told_without_its_trace(herd, client, caplog):
    """The caller learns that it is ours; the log has the rest."""
    herd.raft = lambda: 1 / 0
    answer = client.get("/api/v1/cluster/status")
    assert (answer.status_code, answer.json()["code"]) == (500, "bug")
    assert "ZeroDivision" not in answer.text
    assert "ZeroDivisionError" in caplog.text


def test_requests_are_counted_by_template(herd, make_client):
    """Whoever measures is told the route's template, never the raw path."""
    told = []
    client = make_client(herd, on_request=lambda *what: told.append(what[:3]))
    client.get("/api/v1/nodes/n2")
    client.get("/xyz")
    assert told == [("/api/v1/nodes/{node_id}", "GET", 200), ("unknown", "GET", 404)]
