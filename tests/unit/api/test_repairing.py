"""Proves what people see of a replica in trouble: state, reason, lag, remedies, progress."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pgherd.model.ids import Instant, Lsn, NodeId
from pgherd.model.observation import Recovery, Server
from pgherd.model.remedy import Copied, Ending, Remedy, Repairs, Step
from pgherd.telemetry.metrics import Metrics

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
COPY = Remedy(Step.COPY, 52, "copies the leader anew", 1_700_000_000_000, source=N1, tries=2)


def says(herd, node: NodeId, **fields: object) -> None:
    """Change what a node reports beside its server."""
    heard = herd.heard[node]
    herd.heard[node] = replace(heard, report=replace(heard.report, **fields))


def shown(client, name: str = "n2") -> dict:
    return client.get(f"/api/v1/nodes/{name}").json()


def test_a_stuck_replica_says_why_wherever_one_looks(herd, client):
    """Node, problems, and the check of a balancer: its receiver is gone, and the log knows why."""
    herd.report_server(N2, receiver=None)
    why = "receives nothing from n1: no pg_hba.conf entry"
    says(herd, N2, repairs=Repairs(stuck=why))
    node = shown(client)
    assert (node["state"], node["state_reason"], node["is_healthy"]) == ("stuck", why, False)
    problems = client.get("/api/v1/cluster/status").json()["problems"]
    assert f"n2 is stuck: {why}" in problems


def test_a_paused_replica_is_warned_of(herd, client):
    """It streams, so commits may count on it; reads from it grow old."""
    says(herd, N2, repairs=Repairs(stuck="replay is paused"))
    node = shown(client)
    assert (node["state"], node["is_healthy"]) == ("stuck", True)
    assert "n2: replay is paused" in client.get("/api/v1/cluster/status").json()["warnings"]


def test_lag_is_measured_from_the_primary_in_bytes_and_time(herd, client):
    """A replica that was cut off has nothing left to replay, and is behind all the same."""
    end = herd.heard[N1].report.server.position.lsn
    herd.primary_trail.note(2, Lsn(end - 4096), now=Instant(herd.clock_ms - 90_000))
    herd.primary_trail.note(2, end, now=Instant(herd.clock_ms - 60_000))
    position = herd.heard[N2].report.server.position
    cut_off = replace(position, lsn=Lsn(end - 4096))
    herd.report_server(N2, position=cut_off, receiver=None)
    herd.silence(N2)
    node = shown(client)
    assert (node["lag_bytes"], node["lag_ms"]) == (4096, 60_000)
    assert (shown(client, "n1")["lag_bytes"], shown(client, "n1")["lag_ms"]) == (0, 0)
    herd.report_server(N3, position=replace(position, lsn=end))
    assert shown(client, "n3")["lag_ms"] == 0
    health = client.get("/api/v1/cluster/health").json()
    assert (health["replication_lag_bytes"], health["replication_lag_ms"]) == (0, 0)


def test_metrics_tell_of_replicas_that_nobody_hears(make_client, herd):
    """The lag of one that is cut off grows; it must not vanish just then."""
    end = herd.heard[N1].report.server.position.lsn
    herd.primary_trail.note(2, end, now=Instant(herd.clock_ms - 7_000))
    herd.silence(N2)
    text = make_client(herd, metrics=Metrics(node=N1, version="0")).get("/metrics").text
    assert 'pgherd_replication_lag_bytes{node="n2"} 8.0' in text
    assert 'pgherd_replication_lag_seconds{node="n2"} 7.0' in text
    assert 'pgherd_replica_state{node="n2",state="unreachable"} 1.0' in text
    assert 'pgherd_replica_state{node="n3",state="streaming"} 1.0' in text
    assert 'state="running"' not in text, "the primary is no replica"


def test_what_was_done_is_shown_with_its_end(herd, client):
    """The newest last, with what went wrong and how often."""
    failed = replace(COPY, ending=Ending.FAILED, why="no space left", ended_unix_ms=1)
    says(herd, N2, repairs=Repairs(remedies=(failed,)))
    [one] = shown(client)["remedies"]
    assert one["began_at"] == "2023-11-14T22:13:20.000Z"
    assert (one["step"], one["state"], one["problem"], one["tries"], one["source"]) == (
        "copy",
        "failed",
        "no space left",
        2,
        "n1",
    )


def test_progress_is_told_with_speed_and_time_left(herd, client):
    """A copy under way, one that just begins, a recovery; nothing of who is silent."""
    assert client.get("/api/v1/progress").json() == {"progress": []}
    copied = Copied(25, 100 << 20, 400 << 20, after_ms=10_000)
    says(herd, N2, repairs=Repairs(remedies=(COPY,), copied=copied))
    says(herd, N3, repairs=Repairs(remedies=(replace(COPY, step=Step.REWIND),)))
    [copy, rewind] = client.get("/api/v1/progress").json()["progress"]
    assert (copy["node"], copy["phase"], copy["source"]) == ("n2", "copy", "n1")
    assert (copy["percent"], copy["bytes_per_second"], copy["left_seconds"]) == (25, 10 << 20, 30)
    assert (rewind["phase"], rewind["percent"], rewind["left_seconds"]) == ("rewind", None, None)
    assert shown(client)["state"] == "rebuilding"
    herd.silence(N2)
    recovery = Recovery(total_bytes=1000, left_bytes=250, left_ms=4000)
    herd.report_server(N3, state=Server.STARTING, recovery=recovery)
    says(herd, N3, repairs=Repairs())
    [one] = client.get("/api/v1/progress").json()["progress"]
    assert (one["node"], one["phase"], one["percent"]) == ("n3", "recovery", 75)
    assert (one["done_bytes"], one["left_seconds"]) == (750, 4)


@pytest.mark.parametrize(
    ("body", "source", "from_leader"),
    [
        ({}, None, False),
        ({"from": "n3"}, "n3", False),
        ({"source": "3"}, "n3", False),
        ({"from_leader": True}, None, True),
    ],
)
def test_a_copy_is_asked_of_whom_is_named(herd, client, body, source, from_leader):
    """The ledger keeps it, so whoever leads consensus goes on with it."""
    herd.current = replace(herd.current, level=6)
    assert client.post("/api/v1/nodes/n2/reinitialize", json=body).status_code == 202
    [work] = herd.current.upkeep.works
    assert (work.source, work.from_leader) == (source, from_leader)


def test_a_copy_of_nobody_fit_is_refused(herd, client):
    """Itself, a stranger, two words at once; and a word that an older node would not understand."""
    path = "/api/v1/nodes/n2/reinitialize"
    herd.current = replace(herd.current, level=6)
    assert client.post(path, json={"from": "n2"}).json()["code"] == "cannot_lend"
    assert client.post(path, json={"from": "n9"}).status_code == 404
    assert client.post(path, json={"from": "n3", "from_leader": True}).status_code == 422
    herd.current = replace(herd.current, level=5)
    assert client.post(path, json={"from": "n3"}).json()["code"] == "too_new"
    assert not herd.current.upkeep.works
