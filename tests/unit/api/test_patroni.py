"""Proves Patroni's paths over a herd of real values: bodies, status codes, and their effect."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from msgspec.structs import replace

from pgherd.api.guard import ApiToken, Role
from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model.facts import Handover, Mode
from pgherd.model.ids import Lsn, NodeId
from pgherd.model.observation import Server
from pgherd.model.pgconfig import Pending
from pgherd.model.slots import SlotKind, SlotSeen
from pgherd.model.upkeep import Verb, WorkState

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
START = Lsn(0x3000000)
LATER = "2033-11-14T22:13:20+00:00"


@pytest.fixture(autouse=True)
def newest(herd):
    """All programs know of work."""
    herd.current = replace(herd.current, level=LEVEL)


def members(client) -> dict[str, dict]:
    return {one["name"]: one for one in client.get("/cluster").json()["members"]}


async def hand_over(herd) -> None:
    await asyncio.sleep(0.03)
    wish = herd.current.switchover
    handover = Handover(switchover=wish.id, candidate=wish.candidate or N3)
    herd.elect(handover.candidate, rule=603, reason="asked for", handover=handover)
    herd.everybody(handover.candidate)


# --- health checks -------------------------------------------------------------------------------

PRIMARY = ["/", "/primary", "/read-write", "/leader", "/master"]
READS = ["/read-only", "/read-only-sync", "/read-only-quorum", "/read-only-synchronous"]
REPLICA = ["/replica"]
SYNC, QUORUM, ASYNC = ["/sync", "/synchronous"], ["/quorum"], ["/async", "/asynchronous"]
ALL = [*PRIMARY, *READS, *REPLICA, *SYNC, *QUORUM, *ASYNC, "/standby-leader", "/standby_leader"]


def good(client) -> set[str]:
    """Which checks answer 200; the others say 503."""
    codes = {path: client.get(path).status_code for path in ALL}
    assert set(codes.values()) <= {200, 503}
    for method in ("HEAD", "OPTIONS"):
        assert codes == {path: client.request(method, path).status_code for path in ALL}
    return {path for path, code in codes.items() if code == 200}


def test_the_checks_of_a_primary_and_of_one_of_two_replicas(herd, client):
    """Commits wait for either of two, so no single one is sure to have everything."""
    assert good(client) == {*PRIMARY, *READS}
    herd.node = N2
    assert good(client) == {*REPLICA, "/read-only", *QUORUM, "/read-only-quorum"}
    assert client.get("/replica").json()["quorum_standby"] is True
    assert members(client)["n2"]["role"] == "quorum_standby"


def test_the_checks_of_a_replica_that_has_everything_and_of_one_that_nobody_waits_for(herd, client):
    """One name, one acknowledgement: that one is synchronous."""
    sync = herd.current.sync
    herd.current = replace(herd.current, sync=replace(sync, names=sync.names[:1], names_k=1))
    herd.node = sync.names[0].node
    assert good(client) == {*REPLICA, "/read-only", *SYNC, *QUORUM, *READS}
    assert client.get("/replica").json()["sync_standby"] is True
    herd.node = N3 if herd.node == N2 else N2
    assert good(client) == {*REPLICA, "/read-only", *ASYNC}
    roles = {name: one["role"] for name, one in members(client).items()}
    assert roles == {"n1": "leader", "n2": "sync_standby", "n3": "replica"}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("lag=1GB", 200),
        ("lag=7", 503),
        ("lag=1kb", 200),
        ("lag=nonsense", 400),
        ("replication_state=streaming", 200),
        ("replication_state=in%20archive%20recovery", 503),
        ("tag_rack=a1", 200),
        ("tag_rack=a2", 503),
        ("tag_clonefrom=true", 200),
        ("tag_nofailover=true", 503),
        ("tag_rack=a1&tag_clonefrom=false", 503),
        ("mode=write&lag=0", 200),
    ],
)
def test_what_a_replica_is_asked_for_beside(herd, client, query, code):
    """Lag of what is replayed or written, state, and tags; a primary is never asked for tags."""
    heard = herd.heard[N2]
    labelled = replace(heard.report, labels={"rack": "a1"}, clonefrom=True)
    herd.heard[N2] = replace(heard, report=labelled)
    herd.node = N2
    assert client.get(f"/replica?{query}").status_code == code
    herd.node = N1
    if "lag" not in query:
        assert client.get(f"/primary?{query}").status_code == 200


def test_a_replica_that_does_not_stream_is_none(herd, client):
    """It may be hours behind, whatever it has replayed."""
    herd.report_server(N2, receiver=None)
    herd.node = N2
    assert good(client) == set()
    assert client.get("/patroni").json()["replication_state"] == "in archive recovery"
    assert members(client)["n2"]["state"] == "in archive recovery"


# --- documents -----------------------------------------------------------------------------------


def test_this_node(herd, client):
    """What Patroni's monitoring shows, in its names."""
    herd.report_server(N1, version_num=150004, started_unix_ms=1_600_000_000_000)
    found = client.get("/patroni").json()
    assert (found["state"], found["role"], found["timeline"]) == ("running", "primary", 2)
    assert found["xlog"] == {"location": 0x4000000}
    assert found["patroni"] == {"version": "4.0.4", "scope": "main", "name": "n1"}
    assert found["server_version"] == 150004
    assert found["postmaster_start_time"] == "2020-09-13T12:26:40.000Z"
    assert [row["application_name"] for row in found["replication"]] == ["n2", "n3"]
    assert "pending_restart" not in found
    herd.report_server(N1, matched=(1,), pending=(Pending("max_connections", "100", "200"),))
    found = client.get("/patroni").json()
    assert found["pending_restart"] is True
    assert found["pending_restart_reason"] == {
        "max_connections": {"old_value": "100", "new_value": "200"}
    }


def test_the_members(herd, client):
    """The leader runs, replicas stream with their lag, and beside it where clients are led."""
    found = client.get("/cluster").json()
    one, two, _ = found["members"]
    assert (one["role"], one["state"], one["port"]) == ("leader", "running", 5443)
    assert one["api_url"] == "http://127.0.0.1:8009/patroni"
    assert (two["state"], two["lag"], two["lsn"]) == ("streaming", 8, "0/3FFFFF8")
    assert found["routing_table"] == {
        "primary": "n1",
        "replicas": ["n2", "n3"],
        "split_brain": False,
    }
    assert (found["scope"], "pause" in found) == ("main", False)


def test_nobody_is_guessed_at(herd, client):
    """Who is silent is unknown, lag included; a leader that is down is none that runs."""
    herd.silence(N2)
    herd.report_server(N1, state=Server.STOPPED)
    found = members(client)
    assert (found["n2"]["state"], found["n2"]["lag"]) == ("unknown", "unknown")
    assert (found["n1"]["role"], found["n1"]["state"]) == ("leader", "stopped")
    herd.must(cmd.Begin(expected=herd.current.term, elector=N2, rule=202, reason="suspected"))
    assert {one["role"] for one in members(client).values()} == {"replica"}


def test_what_was(client):
    """A line for each timeline that ended."""
    when = "2023-11-14T22:13:20.000Z"
    assert client.get("/history").json() == [
        [1, 0x3000000, "n1 was silent and came back", when, "n1"]
    ]


def test_who_would_be_asked_in_failsafe_mode(client):
    """Every data member, and where it answers."""
    assert client.get("/failsafe").json() == {
        name: f"http://127.0.0.1:{8008 + number}/patroni"
        for number, name in enumerate(("n1", "n2", "n3"), start=1)
    }


def test_documents_need_no_token_and_changes_do(herd, make_client):
    """Patroni's tools carry none to look."""
    from pgherd.api.guard import ApiToken, Role

    client = make_client(herd, tokens=(ApiToken("vera", Role.VIEWER, "00"),))
    for path in ("/patroni", "/cluster", "/history", "/config", "/failsafe"):
        for method in ("GET", "HEAD", "OPTIONS"):
            answer = client.request(method, path)
            assert (answer.status_code, bool(answer.content)) == (200, method == "GET")
    for path in ("/switchover", "/failover", "/restart", "/reinitialize"):
        answer = client.post(path, content="{}")
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert client.patch("/config", content='{"pause": true}').status_code == 401


# --- who leads -----------------------------------------------------------------------------------


def test_a_switchover_as_curl_sends_it(herd, client):
    """A form by its header, JSON by its content; the answer is a line of text."""
    herd.react = hand_over
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = '{"leader": "n1", "candidate": "n2"}'
    answer = client.post("/switchover", content=body, headers=form)
    assert (answer.status_code, answer.text) == (200, 'Successfully switched over to "n2"')
    assert answer.headers["content-type"].startswith("text/plain")
    assert herd.current.leader.node == N2


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/switchover", "{}", 400),
        ("/switchover", "no json", 400),
        ("/switchover", "[]", 400),
        ("/switchover", '{"candidate": "n2"}', 400),
        ("/switchover", '{"leader": "n1", "candidate": "n1"}', 400),
        ("/switchover", '{"leader": "n2"}', 412),
        ("/switchover", '{"leader": "n1", "candidate": "n9"}', 412),
        ("/switchover", '{"leader": "n1", "scheduled_at": "2033-11-14T22:13:20"}', 400),
        ("/switchover", '{"leader": "n1", "scheduled_at": "2013-11-14T22:13:20Z"}', 422),
        ("/switchover", '{"leader": "n1", "scheduled_at": "soon"}', 422),
        ("/failover", '{"leader": null}', 400),
        ("/failover", '{"candidate": "n9"}', 412),
        ("/failover", '{"candidate": "n2", "scheduled_at": "2h"}', 400),
        ("/restart", '{"role": "boss"}', 400),
        ("/restart", '{"timeout": "never"}', 400),
        ("/restart", '{"postgres_version": "new"}', 400),
        ("/restart", '{"whatever": 1}', 400),
        ("/restart", '{"role": "replica"}', 503),
        ("/restart", '{"restart_pending": true}', 503),
        ("/restart", '{"postgres_version": "14.2"}', 503),
    ],
)
def test_what_cannot_be(herd, client, path, body, status):
    """Nothing is asked for, and the status code is the one that Patroni has for it."""
    herd.report_server(N1, version_num=150004)
    assert client.post(path, content=body).status_code == status
    assert herd.submitted == []


def test_a_body_without_end_is_too_large(client):
    """One that does not say its size."""
    answer = client.post("/switchover", content=(b"x" * 4096 for _ in range(20)))
    assert answer.status_code == 413


def test_without_a_quorum_nothing_changes(herd, client):
    """503, as text."""
    herd.has_quorum = False
    for path in ("/switchover", "/failover"):
        answer = client.post(path, content='{"leader": "n1", "candidate": "n2"}')
        assert (answer.status_code, "quorum" in answer.text) == (503, True)
    assert herd.submitted == []


def test_a_switchover_for_later_and_its_end(herd, client):
    """202, shown in `/cluster`, taken back with DELETE; a second time there is none."""
    body = f'{{"leader": "n1", "candidate": "n3", "scheduled_at": "{LATER}"}}'
    answer = client.post("/switchover", content=body)
    assert (answer.status_code, answer.text) == (202, "Switchover scheduled")
    scheduled = client.get("/cluster").json()["scheduled_switchover"]
    assert scheduled == {"at": "2033-11-14T22:13:20.000Z", "from": "n1", "to": "n3"}
    assert client.post("/switchover", content=body).status_code == 409
    assert client.delete("/switchover").status_code == 200
    assert "scheduled_switchover" not in client.get("/cluster").json()
    assert client.delete("/switchover").status_code == 404


async def fail_over(herd) -> None:
    herd.elect(N2, rule=201, reason="ordered")
    herd.everybody(N2)


def test_a_failover_loses_nothing_while_the_primary_is_well(herd, client):
    """Then it is a switchover; and an election where the primary is gone."""
    herd.react = hand_over
    answer = client.post("/failover", content='{"candidate": "n2"}')
    assert (answer.status_code, answer.text) == (200, 'Successfully failed over to "n2"')
    assert isinstance(herd.submitted[0], cmd.RequestSwitchover)


def test_a_failover_of_a_dead_primary(herd, client):
    """Nobody is asked twice."""
    herd.report_server(N1, state=Server.STOPPED)
    herd.react = fail_over
    assert client.post("/failover", content='{"candidate": "n2"}').status_code == 200
    assert isinstance(herd.submitted[0], cmd.RequestFailover)


# --- this node's server --------------------------------------------------------------------------


def ends(state: WorkState):
    async def react(herd) -> None:
        await asyncio.sleep(0.03)
        work = herd.current.upkeep.works[-1]
        herd.must(cmd.EndWork(work.id, state, "by the deciders"))

    return react


def test_a_restart_is_waited_for(herd, client):
    """200 when it is done, 503 with the reason when it is not."""
    herd.react = ends(WorkState.DONE)
    answer = client.post("/restart", content='{"role": "primary", "timeout": "30s"}')
    assert (answer.status_code, answer.text) == (200, "restarted successfully")
    asked = herd.submitted[0]
    assert (asked.verb, asked.nodes, asked.rolling) == (Verb.RESTART, (N1,), False)
    herd.react = ends(WorkState.FAILED)
    answer = client.post("/restart")
    assert (answer.status_code, "by the deciders" in answer.text) == (503, True)


def test_a_restart_for_later_and_its_end(herd, client):
    """202, shown with the member, taken back with DELETE."""
    body = f'{{"schedule": "{LATER}", "restart_pending": true}}'
    herd.report_server(N1, matched=(1,), pending=(Pending("max_connections", "100", "200"),))
    answer = client.post("/restart", content=body)
    assert (answer.status_code, answer.text) == (202, "Restart scheduled")
    assert herd.submitted[0].only_pending
    when = {"schedule": "2033-11-14T22:13:20.000Z"}
    assert members(client)["n1"]["scheduled_restart"] == when
    assert client.get("/patroni").json()["scheduled_restart"] == when
    assert client.post("/restart", content=body).status_code == 409
    assert client.delete("/restart").status_code == 200
    assert client.delete("/restart").status_code == 404


def test_a_replica_is_copied_anew(herd, client):
    """The node that is asked; both spellings of from_leader."""
    answer = client.post("/reinitialize")
    assert (answer.status_code, "n1 is the primary" in answer.text) == (503, True)
    herd.submitted.clear()
    herd.node = N3
    answer = client.post("/reinitialize", content='{"from-leader": true}')
    assert (answer.status_code, answer.text) == (200, "reinitialize started")
    asked = herd.submitted[0]
    assert (asked.verb, asked.nodes, asked.from_leader) == (Verb.REINIT, (N3,), True)


# --- configuration -------------------------------------------------------------------------------


async def told(herd) -> None:
    """Every server has the newest version."""
    for node in herd.heard:
        herd.report_server(node, config=herd.current.config[-1].version, matched=(1,))


def test_the_configuration_is_patched_and_put(herd, client):
    """PostgreSQL's part, through the cluster's own versions; null deletes."""
    herd.react = told
    body = '{"postgresql": {"parameters": {"work_mem": "8MB", "max_connections": 200}}}'
    shown = client.patch("/config", content=body).json()
    assert shown["postgresql"]["parameters"] == {"max_connections": "200", "work_mem": "8MB"}
    body = '{"postgresql": {"parameters": {"work_mem": null}, "pg_hba": ["host all all all md5"]}}'
    shown = client.patch("/config", content=body).json()
    assert shown["postgresql"]["parameters"] == {"max_connections": "200"}
    assert shown["postgresql"]["pg_hba"] == ["host all all all md5"]
    assert herd.current.config[-1].hba_whole
    body = '{"postgresql": {"parameters": {"work_mem": "9MB"}}}'
    shown = client.put("/config", content=body).json()
    assert shown["postgresql"]["parameters"] == {"work_mem": "9MB"}
    assert shown["postgresql"]["pg_hba"] == ["host all all all md5"]


def test_who_may_log_in_is_shown_to_viewers(herd, client, make_client):
    """A tool without a token sees the configuration, but no line of pg_hba.conf."""
    herd.react = told
    lines = {"pg_hba": ["host all all all md5"], "parameters": {"work_mem": "9MB"}}
    assert client.patch("/config", json={"postgresql": lines}).status_code == 200
    root = ApiToken("root", Role.VIEWER, hashlib.sha256(b"root").hexdigest())
    guarded = make_client(herd, tokens=(root,))
    shown = guarded.get("/config").json()["postgresql"]
    assert (shown["parameters"], "pg_hba" in shown) == ({"work_mem": "9MB"}, False)
    shown = guarded.get("/config", headers={"Authorization": "Bearer root"}).json()["postgresql"]
    assert shown["pg_hba"] == ["host all all all md5"]


async def in_place(herd) -> None:
    """The primary has the slots that the ledger keeps."""
    kept = [one for one in herd.current.slots if not one.dropping]
    seen = tuple(SlotSeen(one.name, one.kind, START, active=False) for one in kept)
    herd.report_server(N1, replication_slots=seen)


def test_what_else_the_configuration_says(herd, client):
    """Pause, slots; each is the call of our own."""
    herd.react = in_place
    body = '{"pause": true, "slots": {"reports": {"type": "physical"}}}'
    client.patch("/config", content=body)
    assert herd.current.paused
    assert [(one.name, one.kind) for one in herd.current.slots] == [("reports", SlotKind.PHYSICAL)]
    assert client.get("/cluster").json()["pause"] is True
    client.patch("/config", content='{"pause": null, "slots": {"reports": null}}')
    assert not herd.current.paused
    assert client.get("/config").json()["slots"] == {}


async def in_force(herd) -> None:
    wish = herd.submitted[-1]
    if isinstance(wish, cmd.SetMode):
        herd.current = replace(herd.current, mode=wish.mode, num_sync=wish.num_sync)


def test_what_commits_wait_for(herd, client):
    """Patroni's words for our modes."""
    herd.react = in_force
    client.patch("/config", content='{"synchronous_mode_strict": true}')
    assert herd.current.mode is Mode.STRICT
    assert client.get("/config").json()["synchronous_mode_strict"] is True
    client.patch("/config", content='{"synchronous_mode": true, "synchronous_mode_strict": false}')
    assert herd.current.mode is Mode.QUORUM


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"ttl": 30, "loop_wait": 5}', "failover.lease_ttl"),
        ('{"nonsense": 1}', "nonsense is not known"),
        ('{"postgresql": {"use_slots": false}}', "always true"),
        ('{"postgresql": {"bin_dir": "/usr"}}', "bin_dir"),
        ('{"postgresql": {"parameters": {"port": 1}}}', "port"),
        ('{"pause": "yes"}', "pause is true or false"),
        ('{"synchronous_mode": "sometimes"}', "synchronous_mode"),
        ('{"slots": {"a": 5}}', "slots.a"),
        ('{"maximum_lag_on_syncnode": "far"}', "max_lag_bytes"),
    ],
)
def test_configurations_that_cannot_be(herd, client, body, said):
    """Whatever pgherd has no such key for is refused with where it is set, never ignored."""
    answer = client.patch("/config", content=body)
    assert (answer.status_code, said in answer.text) == (422, True), answer.text
    assert herd.submitted == []
