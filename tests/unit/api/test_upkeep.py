"""Proves the routes for pauses, maintenance and work on nodes: what they ask for and refuse."""

from __future__ import annotations

import msgspec
import pytest

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model.activity import Transaction
from pgherd.model.ids import NodeId
from pgherd.model.pgconfig import Pending
from pgherd.model.upkeep import Verb, WorkState

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


@pytest.fixture(autouse=True)
def all_new(herd) -> None:
    """Every program understands these commands."""
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)


def test_a_pause_is_shown_and_ends(herd, client):
    """Who, why and until when is in the status; a second resume changes nothing."""
    body = {"until": "2h", "reason": "switches"}
    answer = client.post("/api/v1/cluster/pause", json=body)
    assert answer.status_code == 200, answer.text
    pause = client.get("/api/v1/cluster/status").json()["pause"]
    assert pause == answer.json()["pause"]
    assert (pause["reason"], pause["requested_by"]) == ("switches", "anybody from testclient")
    assert herd.current.upkeep.pause.until_ms == herd.unix_ms + 7_200_000
    assert client.get("/api/v1/cluster/status").json()["warnings"]
    for _ in range(2):
        assert client.post("/cluster/resume").json() == {"paused": False, "pause": None}


@pytest.mark.parametrize("until", ["soon", "2001-01-01T00:00Z", "2099-01-01T00:00"])
def test_a_pause_ends_at_a_time_to_come(client, until):
    """No time, a time that is over and a time without a zone are refused with an example."""
    answer = client.post("/api/v1/cluster/pause", json={"until": until})
    assert answer.status_code == 422
    assert "2h" in answer.json()["hint"]


@pytest.mark.parametrize("verb", ["restart", "reload", "reinitialize"])
def test_work_is_asked_for_and_told(herd, client, verb):
    """202 with an id, which is listed, shown and cancelled; one at a time of one node."""
    answer = client.post(f"/api/v1/nodes/n2/{verb}", json={"at": "1h", "reason": "why not"})
    assert answer.status_code == 202, answer.text
    made = answer.json()
    assert (made["state"], made["action"], made["nodes"]) == ("pending", verb, ["n2"])
    assert herd.current.upkeep.works[0].not_before_ms == herd.unix_ms + 3_600_000
    assert client.get("/api/v1/actions").json()["actions"] == [made]
    again = client.post(f"/api/v1/nodes/n2/{verb}", json={"at": "2h"})
    assert (again.status_code, again.json()["code"]) == (409, "busy")
    ended = client.delete(f"/api/v1/actions/{made['id']}").json()
    assert ended["state"] == "cancelled"
    assert client.get(f"/api/v1/actions/{made['id']}").json() == ended
    assert client.get("/api/v1/actions/nothing").status_code == 404


def test_what_is_in_hand_is_finished_before_it_is_cancelled(herd, client):
    """The node in hand has its part done; then the rest is not begun."""
    made = client.post("/api/v1/cluster/restart").json()
    herd.must(cmd.TakeInHand(made["id"], 0, N2, mark="7", text="restart of n2", rule=1101))
    assert client.delete(f"/api/v1/actions/{made['id']}").json()["state"] == "running"
    herd.must(cmd.CrossOff(made["id"], 1, rule=1103))
    work = herd.current.upkeep.work(made["id"])
    assert (work.state, work.finished) == (WorkState.CANCELLED, (N2,))


def test_the_primary_is_spared(herd, client):
    """It is not copied, and is stopped by force only."""
    for verb in ("stop", "reinitialize"):
        answer = client.post(f"/api/v1/nodes/n1/{verb}")
        assert (answer.status_code, answer.json()["code"]) == (412, "is_primary"), answer.text
    assert client.post("/api/v1/nodes/n1/stop", json={"force": True}).status_code == 202


def test_a_copy_that_commits_need_is_spared(herd, client):
    """With n3 silent n2 is the only copy left: neither stopped nor copied, unless by force."""
    herd.silence(N3)
    for verb in ("stop", "reinitialize"):
        answer = client.post(f"/api/v1/nodes/n2/{verb}")
        assert answer.json()["code"] == "would_stop_commits", answer.text
    assert client.post("/api/v1/nodes/n2/stop", json={"force": True}).status_code == 202


def test_a_rolling_restart_is_looked_at_first(herd, client):
    """The plan says the order and what is not well; that refuses the restart itself."""
    plan = client.post("/api/v1/cluster/restart/plan").json()
    assert (plan["ok"], plan["order"]) == (True, ["n2", "n3", "n1"])
    herd.silence(N3)
    plan = client.post("/api/v1/cluster/restart/plan").json()
    assert not plan["ok"]
    answer = client.post("/api/v1/cluster/restart")
    assert (answer.status_code, answer.json()["code"]) == (412, "not_ready")
    assert "n3 does not stream" in answer.json()["message"]
    forced = client.post("/api/v1/cluster/restart", json={"force": True, "nodes": ["n2"]})
    assert forced.status_code == 202
    work = herd.current.upkeep.works[-1]
    assert (work.verb, work.nodes, work.rolling, work.force) == (Verb.RESTART, (N2,), True, True)


def test_who_was_stopped_is_shown_and_started(herd, client):
    """Only what was stopped by hand is started by hand, in any phase."""
    assert client.post("/api/v1/nodes/n2/start").json()["code"] == "not_stopped"
    made = client.post("/api/v1/nodes/n2/stop").json()
    herd.must(cmd.TakeInHand(made["id"], 0, N2, mark="7", text="stop of n2", rule=1101))
    herd.must(cmd.CrossOff(made["id"], 1, rule=1103))
    assert client.get("/api/v1/nodes/n2").json()["stopped_by"] == "anybody from testclient"
    assert client.post("/api/v1/nodes/n2/start").status_code == 202
    assert client.get("/api/v1/nodes/n2").json()["stopped_by"] is None


def test_maintenance_is_shown_and_ends(herd, client):
    """The node, the status and the ledger say so; the primary is refused."""
    path = "/api/v1/nodes/n2/maintenance"
    body = {"enabled": True, "reason": "disk", "allow_failover": True}
    made = client.post(path, json=body).json()
    assert client.get("/api/v1/nodes/n2").json()["maintenance"] == made["maintenance"]
    assert herd.current.upkeep.maintenance[N2].allow_failover
    [warning] = client.get("/api/v1/cluster/status").json()["warnings"]
    assert "n2 is in maintenance by anybody from testclient (disk)" in warning
    assert client.post(path, json={"enabled": False}).json()["maintenance"] is None
    refused = client.post("/api/v1/nodes/n1/maintenance", json=body)
    assert refused.json()["code"] == "is_primary"


# --- actions, schedules, pending restarts --------------------------------------------------------


def test_a_switchover_is_an_action(herd, client):
    """202 with its id, which is followed to what became of it."""
    made = client.post("/api/v1/cluster/switchover?wait=0", json={"candidate": "n2"})
    assert made.status_code == 202, made.text
    path = f"/api/v1/actions/{made.json()['id']}"
    shown = client.get(path).json()
    assert (shown["what"], shown["state"]) == ("switchover to n2", "running")
    herd.must(cmd.EndSwitchover(made.json()["id"], "n2 is far behind"))
    shown = client.get(path).json()
    assert (shown["state"], shown["step"]) == ("failed", "n2 is far behind")


def test_a_switchover_is_scheduled_listed_and_cancelled(herd, client):
    """One at a time; the status says that it is due; without one there is nothing to cancel."""
    path = "/api/v1/cluster/switchover"
    made = client.post(path, json={"candidate": "n2", "scheduled_at": "2h"})
    assert (made.status_code, made.json()["status"]) == (202, "scheduled"), made.text
    assert made.json()["due_at"] == "2023-11-15T00:13:20.000Z"
    assert herd.current.switchover is None
    [warning] = client.get("/api/v1/cluster/status").json()["warnings"]
    assert "switchover to n2 asked for by anybody from testclient is due at 2023" in warning
    assert client.post(path, json={"scheduled_at": "3h"}).json()["code"] == "busy"
    assert client.delete(path).json()["state"] == "cancelled"
    assert client.delete(path).status_code == 404
    for wrong in ({"scheduled_at": "soon"}, {"scheduled_at": "2001-01-01T00:00Z"}):
        assert client.post(path, json=wrong).status_code == 422


def test_a_node_is_promoted_and_demoted(herd, client):
    """By a switchover to it, a failover with force, a switchover away from it."""
    assert client.post("/api/v1/promote/n2?wait=0").status_code == 202
    assert herd.submitted[-1] == cmd.RequestSwitchover(
        herd.current.switchover.id, N2, "anybody from testclient"
    )
    client.delete("/api/v1/cluster/switchover")
    assert client.post("/api/v1/demote/n1?wait=0").status_code == 202
    assert herd.current.switchover.candidate is None
    client.delete("/api/v1/cluster/switchover")
    forced = client.post("/api/v1/promote/n3?wait=0", json={"force": True})
    assert forced.status_code == 202, forced.text
    assert herd.current.forced.candidate == N3
    assert client.post("/api/v1/demote/n2").json()["code"] == "not_primary"
    assert client.post("/api/v1/promote/n9").status_code == 404


def test_only_who_waits_for_a_restart_is_restarted(herd, client):
    """Nobody now is an error; at a later time it is looked at then."""
    body = {"pending": True}
    none = client.post("/api/v1/cluster/restart", json=body)
    assert (none.status_code, none.json()["code"]) == (412, "nothing_pending")
    later = client.post("/api/v1/cluster/restart", json={**body, "at": "1h"}).json()
    assert later["nodes"] == ["n1", "n2", "n3"]
    client.delete(f"/api/v1/actions/{later['id']}")
    herd.report_server(N3, pending=(Pending("shared_buffers", "128MB", "1GB"),))
    assert client.post("/api/v1/cluster/restart/plan", json=body).json()["order"] == ["n3"]
    made = client.post("/api/v1/cluster/restart", json=body).json()
    assert (made["nodes"], made["progress_percent"]) == (["n3"], 0)
    assert herd.current.upkeep.work(made["id"]).only_pending


def test_the_way_into_maintenance_is_followed(herd, client):
    """An id as long as commits count on the node; it ends at its time, or is cancelled."""
    path = "/api/v1/nodes/n2/maintenance"
    made = client.post(path, json={"enabled": True, "until": "2h"})
    assert made.status_code == 202, made.text
    assert made.json()["maintenance"]["until"] == "2023-11-15T00:13:20.000Z"
    action = client.get(f"/api/v1/actions/{made.json()['action']}").json()
    assert (action["what"], action["state"]) == ("maintenance of n2", "running")
    client.delete(f"/api/v1/actions/{action['id']}")
    assert client.get("/api/v1/nodes/n2").json()["maintenance"] is None


def test_before_maintenance_is_looked_at_what_the_others_can_do_without(herd, client):
    """The others stream, commits survive, nothing runs on it for long; and what is not known."""
    path = "/api/v1/nodes/n2/maintenance/plan"
    herd.transactions[N2] = (Transaction(7, "bob", "shop", "active", 20),)
    assert client.post(path).json()["ok"]
    herd.transactions[N2] = (Transaction(7, "bob", "shop", "idle in transaction", 3000),)
    found = {one["name"]: one for one in client.post(path).json()["checks"]}
    bad = [name for name, one in found.items() if not one["ok"]]
    assert bad == ["transactions on n2"]
    assert found["transactions on n2"]["text"] == "bob 7 (idle in transaction) for 3000 s"
    herd.silence(N3)
    del herd.transactions[N2]
    found = {one["name"]: one for one in client.post(path).json()["checks"]}
    assert [name for name, one in found.items() if one["ok"]] == ["primary", "lag"]
    assert "the server is hung" in found["transactions on n2"]["text"]
    assert not herd.current.upkeep.maintenance
