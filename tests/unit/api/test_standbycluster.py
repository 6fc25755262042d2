"""The API of a standby cluster: what is shown, why its promotion is refused, what is asked for.

The ledger is the real one; what the remote answers is given.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from pgherd.daemon.routing import snapshot
from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model.facts import Phase
from pgherd.model.ids import Instant, Lsn, MemberKey, NodeId, Position, Term, Timeline
from pgherd.model.observation import Receiver, Server, ServerSeen
from pgherd.model.standbycluster import Remote, RemoteSeen, SourceSeen
from pgherd.route.choose import Bound, NoBackend, Route, choose

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
END = Lsn(0x4000000)
REMOTE = Remote((("far", 5432),))
GONE = (RemoteSeen("far", 5432, problem="connection refused"),)


def standby(herd: Any, node: NodeId, *, behind: int = 0, comes: bool = True) -> None:
    """A member to which WAL comes from whom it follows."""
    whom = "remote" if node == N1 else "n1"
    herd.report(
        node,
        ServerSeen(
            state=Server.STANDBY,
            major=15,
            timeline=Timeline(2),
            position=Position(Term(2), Lsn(END - behind)),
            receiver=Receiver(None, Term(0), "streaming", Lsn(END - behind)) if comes else None,
            source=SourceSeen(named=True, mark=f"{whom} there:1 slot "),
        ),
    )


@pytest.fixture
def away(herd: Any) -> Any:
    """The herd after its demotion: n1 streams from the remote, the others from n1."""
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)
    herd.must(cmd.DemoteCluster(herd.current.term, REMOTE, "ann"))
    for node in (N1, N2, N3):
        standby(herd, node, behind=8 if node == N3 else 0)
    herd.remote = GONE
    return herd


def refused(client: TestClient, **body: object) -> tuple[int, str]:
    answer = client.post("/api/v1/cluster/promote", json=body)
    return answer.status_code, answer.json()["code"]


def test_it_is_shown(away: Any, client: TestClient) -> None:
    """Roles, lag from the standby leader, what is followed; all is well without a primary."""
    found = client.get("/api/v1/cluster/status").json()
    assert (found["status"], found["primary_node_id"], found["problems"]) == (
        "operational",
        None,
        [],
    )
    assert found["follows"] == {
        "hosts": ["far:5432"],
        "primary_slot_name": "",
        "sslmode": "prefer",
        "standby_leader": "n1",
        "is_streaming": True,
        "received_lsn": "0/4000000",
        "reason": "led the cluster until it was demoted",
    }
    nodes = client.get("/api/v1/nodes").json()["nodes"]
    assert [(one["role"], one["state"], one["lag_bytes"]) for one in nodes] == [
        ("standby_leader", "streaming", 0),
        ("replica", "streaming", 0),
        ("replica", "streaming", 8),
    ]
    assert client.get("/api/v1/history").json()["reigns"], "reigns of before are not forgotten"


def test_health_checks(away: Any, client: TestClient) -> None:
    """The standby leader is no replica for a balancer, and goes on leading when nothing comes."""
    paths = ("/standby-leader", "/standby_leader", "/primary", "/replica", "/read-only")
    leads = [client.get(path).status_code for path in paths]
    assert leads == [200, 200, 503, 503, 200]
    away.node = N2
    assert [client.get(path).status_code for path in paths] == [503, 503, 503, 200, 200]
    away.node = N1
    standby(away, N1, comes=False)
    away.report_server(
        N1, source=SourceSeen(named=True, mark="remote there:1 ", problem="no route")
    )
    assert client.get("/standby-leader").status_code == 200
    found = client.get("/api/v1/cluster/status").json()
    assert found["status"] == "degraded"
    assert "nothing comes from the remote primary: no route" in found["problems"]
    away.silence(N1)
    assert client.get("/api/v1/cluster/status").json()["status"] == "degraded"


def test_why_a_promotion_is_refused(away: Any, client: TestClient) -> None:
    """A remote that lives, or has more; a member that is silent, or further than all that count."""
    away.remote = (RemoteSeen("far", 5432, is_primary=True, lsn=END),)
    assert refused(client) == (412, "remote_alive")
    assert away.asked_remote == (N1, REMOTE)
    away.remote = (RemoteSeen("far", 5432, lsn=Lsn(END + 1)),)
    assert refused(client) == (412, "behind")
    away.remote = GONE
    away.silence(N3)
    assert refused(client) == (412, "would_lose")
    away.silence(N1)
    assert refused(client, force=True) == (412, "no_standby_leader")
    assert away.current.follows is not None


async def elected(herd: Any) -> None:
    """The first election, as rules 103 and 305 make it."""
    if herd.current.follows is None and herd.current.phase is Phase.UNBORN:
        herd.elect(N1, rule=103, reason="first")


@pytest.mark.parametrize("forced", [False, True])
def test_it_is_promoted(away: Any, client: TestClient, forced: bool) -> None:
    """All who stream count; with force a silent one is left out, and a living remote left alone."""
    away.react = elected
    if forced:
        away.remote = (RemoteSeen("far", 5432, is_primary=True),)
        away.silence(N3)
    answer = client.post("/api/v1/cluster/promote", json={"force": forced})
    assert answer.status_code == 200, answer.json()
    found = answer.json()
    assert (found["new_primary"], found["left_out"]) == ("n1", ["n3"] if forced else [])
    [command] = [one for one in away.submitted if isinstance(one, cmd.PromoteCluster)]
    counts = (N1, N2) if forced else (N1, N2, N3)
    assert command.voters == tuple(MemberKey(node, f"aaaaa{node[1:]}") for node in counts)
    assert client.post("/api/v1/cluster/promote").json()["code"] == "not_standby"


async def stood_down(herd: Any) -> None:
    if herd.current.follows is not None:
        for node in (N1, N2, N3):
            standby(herd, node)


def test_it_is_demoted(herd: Any, client: TestClient) -> None:
    """Answered once the former primary is a standby; a cluster does not follow itself."""
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)
    herd.react = stood_down
    own = {"hosts": ["127.0.0.1:5443"]}
    assert client.post("/api/v1/cluster/demote", json=own).json()["code"] == "invalid"
    for bad in ({"hosts": []}, {"hosts": ["nowhere"]}, {"hosts": ["a:1"], "sslmode": "maybe"}):
        assert client.post("/api/v1/cluster/demote", json=bad).status_code == 422
    wanted = {"hosts": ["far:5432", "[fd00::1]:5433"], "primary_slot_name": "b"}
    answer = client.post("/api/v1/cluster/demote", json=wanted)
    assert answer.status_code == 200, answer.json()
    assert (answer.json()["standby_leader"], answer.json()["lsn"]) == ("n1", "0/4000000")
    assert herd.current.follows is not None
    assert herd.current.follows.remote == Remote((("far", 5432), ("fd00::1", 5433)), slot="b")


async def moved(herd: Any) -> None:
    if herd.current.follows is not None and herd.current.follows.leader == N2:
        herd.report_server(N2, source=SourceSeen(named=True, mark="remote there:1 "))


def test_a_switchover_moves_the_standby_leader(away: Any, client: TestClient) -> None:
    away.react = moved
    answer = client.post("/api/v1/cluster/switchover", json={"candidate": "n2"})
    assert answer.status_code == 200, answer.json()
    assert "n2 is standby leader" in answer.json()["reason"]
    assert away.current.follows is not None
    assert away.current.follows.leader == N2
    answer = client.post("/api/v1/cluster/failover", json={"force": True})
    assert (answer.status_code, answer.json()["code"]) == (412, "standby_cluster")
    again = client.post("/api/v1/cluster/switchover", json={"candidate": "n2"})
    assert again.json()["code"] == "no_candidate"


def test_a_switchover_for_later_is_refused(away: Any, client: TestClient) -> None:
    """It was done at once, whatever it said."""
    later = {"candidate": "n2", "scheduled_at": "+1h"}
    answer = client.post("/api/v1/cluster/switchover", json=later)
    assert (answer.status_code, answer.json()["code"]) == (412, "standby_cluster")
    assert away.current.follows is not None
    assert away.current.follows.leader == N1


def test_patronis_switchover_names_the_standby_leader(away: Any, client: TestClient) -> None:
    away.react = moved
    wrong = client.post("/switchover", json={"leader": "n2", "candidate": "n3"})
    assert wrong.status_code == 412
    answer = client.post("/switchover", json={"leader": "n1", "candidate": "n2"})
    assert (answer.status_code, answer.text) == (200, 'Successfully switched over to "n2"')
    assert away.current.follows is not None
    assert away.current.follows.leader == N2


def test_where_clients_go(away: Any) -> None:
    """Reads to all members, writes nowhere, and at once with the reason."""
    now = Instant(away.clock_ms)
    given = snapshot(
        away.current,
        away.heard,
        me=N2,
        silent_after_ms=1500,
        now=now,
        hold_until=Instant(0),
        assured_at=now,
    )
    assert given.primary is None
    assert [(one.name, one.lag_bytes, one.usable) for one in given.replicas] == [
        ("n1", 0, True),
        ("n2", 0, True),
        ("n3", 8, True),
    ]
    writes = choose(given, Route.PRIMARY, now=now, counts={})
    assert isinstance(writes, NoBackend)
    assert (writes.sqlstate, writes.final) == ("25006", True)
    assert "follows the remote primary at far:5432" in writes.message
    assert isinstance(choose(given, Route.REPLICA, now=now, counts={}), Bound)


def test_explained(away: Any, client: TestClient) -> None:
    found = client.get("/api/v1/explain").json()
    assert "follows the remote primary at far:5432" in found["why_primary"]
