"""Proves the paths without a version, plan steps, probes, and who can lead: over real values."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from msgspec.structs import replace

from pgherd.api import checks, viewer
from pgherd.api.herd import ProxySeen
from pgherd.api.localcluster import Ran
from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model.facts import Handover, Tags
from pgherd.model.ids import Instant, NodeId
from pgherd.model.observation import Server
from pgherd.model.upkeep import Verb, WorkState
from pgherd.route.pooling import Pool
from pgherd.route.poolreport import PoolCounters, PoolReport
from pgherd.route.poolsteps import PoolLimits

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
DAY_MS = 86_400_000


@pytest.fixture(autouse=True)
def newest(herd):
    """All programs know of work."""
    herd.current = replace(herd.current, level=LEVEL)


def states(client) -> dict[str, str]:
    return {one["node"]: one["state"] for one in client.get("/cluster/state").json()["nodes"]}


# --- how nodes stand -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "running_replica"),
        ({"state": Server.NONE}, "initializing"),
        ({"state": Server.UNUSABLE}, "fenced"),
        ({"state": Server.STOPPED}, "stopped"),
        ({"state": Server.STARTING}, "recovering"),
        ({"state": Server.HUNG}, "unknown"),
        ({"receiver": None}, "recovering"),
        ({"state": Server.PRIMARY}, "fenced"),
    ],
)
def test_the_word_for_a_replica(herd, client, changes, state):
    """One of a fixed list, whatever its server does."""
    herd.report_server(N2, **changes)
    assert states(client) == {"n1": "running_primary", "n2": state, "n3": "running_replica"}


def test_the_words_in_an_election(herd, client):
    """Who gives the lead away, who takes it, who is silent, and who is far behind."""
    herd.silence(N3)
    handover = Handover(switchover="s1", candidate=N2)
    begin = {"expected": herd.current.term, "elector": N2, "rule": 603, "reason": "asked for"}
    herd.must(cmd.RequestSwitchover("s1", N2, "ann"), cmd.Begin(**begin, handover=handover))
    assert states(client) == {"n1": "demoting", "n2": "running_replica", "n3": "unknown"}
    found = client.get("/cluster/state").json()
    assert (found["epoch"], found["paused"], found["as_of"]) == (3, False, 40)


def test_a_replica_beyond_the_limit_lags(herd, client):
    """Only where there is a limit."""
    herd.replica(N2, leader=N1, behind=8 << 20)
    assert states(client)["n2"] == "running_replica"
    tuning = replace(herd.current.tuning, max_lag_bytes=1 << 20)
    herd.current = replace(herd.current, tuning=tuning)
    assert states(client)["n2"] == "lagging"


def test_replication_in_one_look(client):
    """Who streams and how far, what commits wait for, and the slots."""
    found = client.get("/cluster/replication").json()
    assert (found["primary"], found["lsn"], found["timeline"]) == ("n1", "0/4000000", 2)
    two = found["standbys"][0]
    assert (two["node"], two["sync_state"], two["replay_lsn"]) == ("n2", "quorum", "0/3FFFFF8")
    assert (found["synchronous"]["replication"], found["slots"]["slots"]) == ("quorum", [])


def test_connections_are_of_this_node(herd, client):
    """What its proxy carries; a node without one carries none."""
    sessions = {"primary": {"n1": 3}, "replica": {"n2": 1, "n1": 1}}
    herd.proxy_seen = ProxySeen(healthy=True, sessions=sessions, held=2)
    found = client.get("/connections").json()
    assert (found["active_connections"], found["held"]) == (5, 2)
    assert found["by_backend"] == {"n1": 4, "n2": 1}
    assert found["by_listener"] == {"primary": 3, "replica": 2}
    herd.proxy_seen = None
    found = client.get("/connections").json()
    assert (found["active_connections"], found["proxy_healthy"]) == (0, None)


def test_pools_are_of_this_node(herd, client):
    """Who has to wait comes first; a node whose proxy lends nothing has none."""
    path = "/api/v1/proxy/pools"
    nothing = {"node": "n1", "pools": [], "routed": {}}
    assert client.get(path).json() == {**nothing, "proxy_healthy": True}
    calm, busy = (Pool(PoolLimits(size=1), now=Instant(0)) for _ in range(2))
    for client_number in (1, 2):
        busy.want(client_number, Instant(0))
    reports = tuple(
        PoolReport(name, "ann", "n1", size=1, reserve=0, seen=pool.seen(Instant(10)))
        for name, pool in (("calm", calm), ("busy", busy))
    )
    routed = {"replica": {"read": 7, "repeated": 1}, "primary": {"write": 2}}
    herd.proxy_seen = ProxySeen(healthy=True, pools=PoolCounters(reports), routed=routed)
    assert client.get(path).json()["routed"] == routed
    found = client.get(path).json()["pools"]
    assert [one["database"] for one in found] == ["busy", "calm"]
    waits = [found[0][name] for name in ("clients_waiting", "servers_opening", "longest_wait_ms")]
    assert waits == [2, 1, 10]
    herd.proxy_seen = None
    assert client.get(path).json() == {**nothing, "proxy_healthy": None}


def test_changes_have_twins_without_a_version(herd, client):
    """The same calls under the names that other tools use."""
    answer = client.post("/cluster/switchover?wait=0", json={"to": "n2"})
    assert (answer.status_code, herd.current.switchover.candidate) == (202, N2)
    assert client.delete("/cluster/switchover").status_code == 200
    assert client.post("/cluster/failover", json={"to": "n2"}).status_code == 409
    assert client.post("/cluster/pause").json()["paused"] is True
    assert client.post("/cluster/resume").json()["paused"] is False
    answer = client.post("/cluster/reinitialize", json={"to": "n3", "force": True})
    assert (answer.status_code, answer.json()["nodes"]) == (202, ["n3"])
    both = {"node": "n2", "source": "n3", "from_leader": True}
    assert client.post("/cluster/reinitialize", json=both).status_code == 422
    assert client.post("/cluster/reinitialize", json={}).status_code == 422


def test_reads_say_as_of_when_or_ask_the_quorum(herd, client):
    """What is told from this node alone is told without a quorum; what must be sure is not."""
    herd.has_quorum = False
    for path in ("/cluster", "/cluster/state", "/cluster/replication", "/raft/directives"):
        assert client.get(path).status_code == 200
        answer = client.get(f"{path}?consistent=1")
        assert (answer.status_code, answer.json()["code"]) == (503, "no_quorum")
    assert client.get("/patroni").json()["pgherd"]["has_quorum"] is False
    assert "dcs_last_seen" not in client.get("/patroni").json()


def test_who_hears_of_nobody_is_primary_while_commits_are_acknowledged(herd, client):
    """Then another one may have been elected."""
    herd.has_quorum = False
    assert client.get("/primary").status_code == 200
    herd.report_server(N1, senders=())
    herd.lease_left(N1, 9000)  # an election waits for its end only where no commit is waited for
    for path in ("/primary", "/leader", "/read-write", "/health"):
        assert client.get(path).status_code == 503, path
    herd.has_quorum = True
    assert client.get("/primary").status_code == 200


def test_a_cluster_for_development_is_asked_for(herd, make_client):
    """By its own command line; what that refuses is told in its words, and a name is needed."""
    asked: list[list[str]] = []
    answers = [
        Ran(0, "psql here\nstatus here\n", ""),
        Ran(2, "", "pgherd: it runs"),
        Ran(0, "", ""),
    ]

    async def run(words: list[str]) -> Ran:
        asked.append(words)
        return answers[len(asked) - 1]

    client = make_client(herd, local=run)
    wanted = {"num_nodes": 1, "data_dir": "/var/tmp/x", "base_port": 7000}
    made = client.post("/api/v1/cluster/create", json=wanted)
    assert (made.status_code, made.json()["connect"]) == (201, "psql here")
    line = "cluster create --nodes 1 --dir /var/tmp/x --base-port 7000"
    assert asked[0] == line.split()
    refused = client.post("/api/v1/cluster/create")
    assert (refused.status_code, refused.json()["message"]) == (409, "pgherd: it runs")
    for path in ("/tmp/../etc", "here"):
        body = {"data_dir": path}
        assert client.post("/api/v1/cluster/create", json=body).status_code == 422
    unwanted = {"confirm": "main", "data_dir": "/var/tmp/x"}
    assert client.post("/cluster/destroy", json=unwanted).status_code == 412
    assert len(asked) == 2
    assert client.post("/cluster/destroy", json={**unwanted, "confirm": "local"}).status_code == 200
    assert asked[2] == ["cluster", "destroy", "--yes", "--dir", "/var/tmp/x"]


# --- plan steps ----------------------------------------------------------------------------------


def steps(client, query: str = "") -> dict[str, dict]:
    found = client.get(f"/raft/directives{query}").json()["directives"]
    return {one["id"]: one for one in found}


def test_work_is_a_step_for_each_node(herd, client):
    """Its turn, its end, and the epoch in which it was asked for."""
    herd.must(cmd.AskWork("w1", Verb.RESTART, (N2, N3), "ann", rolling=True))
    herd.must(cmd.TakeInHand("w1", step=0, node=N2, mark="7", text="n2 restarts", rule=1101))
    found = steps(client)
    assert [found["w1.n2"]["status"], found["w1.n3"]["status"]] == ["in_progress", "pending"]
    assert (found["w1.n2"]["type"], found["w1.n2"]["term"]) == ("restart", 2)
    herd.must(cmd.CrossOff("w1", step=1, rule=1103))
    herd.must(cmd.EndWork("w1", WorkState.FAILED, "n3 is gone", rule=1104))
    found = steps(client)
    assert (found["w1.n2"]["status"], found["w1.n2"]["error"]) == ("completed", "")
    assert (found["w1.n3"]["status"], found["w1.n3"]["error"]) == ("failed", "n3 is gone")
    assert client.get("/raft/directives/w1.n3").json() == found["w1.n3"]
    assert client.get("/raft/directives/w9").status_code == 404
    assert set(steps(client, "?node=n3&status=failed")) == {"w1.n3"}
    assert client.get("/raft/directives?node=n9").status_code == 404
    assert client.get("/raft/directives?status=odd").status_code == 422


def test_an_election_is_steps_too(herd, client):
    """Seal, then promote; what was never established has failed."""
    assert steps(client)["epoch-2.n1"]["status"] == "completed"
    term = herd.current.term
    herd.must(cmd.Begin(expected=term, elector=N2, rule=202, reason="n1 is silent"))
    herd.seal(N3, elector=N2)
    seals = {one["target"]: one for one in steps(client).values() if one["type"] == "seal"}
    status = {node: one["status"] for node, one in seals.items()}
    assert status == {"n1": "in_progress", "n2": "in_progress", "n3": "completed"}
    assert seals["n2"]["requested_by"] == "rule 202"


def test_steps_are_told_for_a_day(herd, client):
    """Then the history alone tells of them."""
    assert "epoch-2.n1" in steps(client)
    herd.unix_ms += DAY_MS + 1
    assert steps(client) == {}


# --- who can lead --------------------------------------------------------------------------------


def test_why_a_node_can_or_cannot_lead(herd, client):
    """A sentence for each way, from the deciders' own conditions."""
    found = client.get("/api/v1/explain/n2").json()
    assert (found["can_switch_over"], found["can_be_elected"]) == (True, True)
    member = replace(herd.current.members[N3], tags=Tags(nofailover=True))
    herd.current = replace(herd.current, members={**herd.current.members, N3: member})
    found = client.get("/api/v1/explain/3").json()
    assert found["why_not_switchover"] == found["why_not_elected"] == "n3 is tagged nofailover"
    herd.silence(N2)
    found = client.get("/api/v1/explain/n2").json()
    assert found["why_not_elected"] == "n2 does not report"
    assert client.get("/api/v1/explain/n1").json()["why_not_switchover"] == "n1 is the primary"
    assert client.get("/api/v1/explain/n9").status_code == 404


def what_if(client, lost: str) -> dict:
    return client.get(f"/api/v1/explain/n2?if_lost={lost}").json()["if_lost"]


def test_what_if_a_node_were_lost(herd, client):
    """Of a whole herd any one may be; of what is left of it not every one."""
    found = what_if(client, "n1")
    assert (found["writes"], found["new_primary"]) == ("go on after an election", "n2")
    assert (what_if(client, "n3")["writes"], what_if(client, "n3")["new_primary"]) == (
        "go on",
        "n1",
    )
    herd.silence(N3)
    found = what_if(client, "n1")
    assert (found["has_quorum"], found["writes"], found["new_primary"]) == (False, "wait", None)
    assert "no quorum" in found["why"]
    herd.primary(N1, replicas=(N2,))
    assert what_if(client, "n2")["writes"] == "wait"


def test_what_if_in_a_pause(herd, client):
    """Nobody takes over by himself then."""
    herd.must(cmd.Pause("p1", "ann"))
    assert "paused by ann" in what_if(client, "n1")["why"]


# --- probes, and the page ------------------------------------------------------------------------


def test_the_last_probes_of_a_node(herd, client):
    """As its own agent tells them, or why it does not."""
    [probe] = client.get("/api/v1/nodes/n1/health?limit=5").json()["probes"]
    assert (probe["verdict"], probe["took_ms"]) == ("alive", 3)
    found = client.get("/api/v1/nodes/n2/health").json()
    assert (found["probes"], found["probes_problem"]) == ([], "n2 did not answer")
    assert client.get("/api/v1/nodes/n1/health?limit=101").status_code == 422


def test_the_contract_names_errors_and_rights(client):
    """Every error has one form, and every call says which role it takes."""
    found = client.get("/openapi.json").json()
    call = found["paths"]["/api/v1/cluster/switchover"]["post"]
    assert (call["x-role"], call["security"]) == ("operator", [{"bearer": []}])
    refused = call["responses"]["412"]["content"]["application/json"]["schema"]
    assert refused == {"$ref": "#/components/schemas/Failure"}
    assert "security" not in found["paths"]["/primary"]["get"]
    assert "HTTPValidationError" not in found["components"]["schemas"]


def stands_on(dependant: Dependant) -> Iterator[object]:
    """Everything that a route asks for first, at any depth."""
    for one in dependant.dependencies:
        yield one.call
        yield from stands_on(one)


def test_nothing_looks_at_the_herd_from_a_thread():
    """FastAPI runs whatever is no coroutine in a thread, and the agent belongs to its loop."""
    made = [*checks.router.routes, *checks.shown()]
    routes = [one for one in made if isinstance(one, APIRoute)]
    assert len(routes) > 30
    for route in routes:
        assert inspect.iscoroutinefunction(route.endpoint)
        assert all(inspect.iscoroutinefunction(call) for call in stands_on(route.dependant))


def test_the_page_shows_every_call_and_needs_nobody(client):
    """No script, nothing from elsewhere; each path and method once."""
    answer = client.get("/docs")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in answer.text
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    contract = client.get("/openapi.json").json()
    shown = [one for _, group in viewer.operations(contract) for one in group]
    calls = {(one.method.lower(), one.path) for one in shown}
    told = {(m, p) for p, ways in contract["paths"].items() for m in ways}
    assert calls == told
    assert len(shown) == len(calls)
    for one in shown:
        assert f"<code>{one.path}</code>" in answer.text
