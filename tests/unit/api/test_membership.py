"""Proves the routes that change who belongs to the herd: what they refuse, ask for and wait for."""

from __future__ import annotations

import asyncio
import threading

import msgspec
import pytest

from pgherd.ledger import commands as cmd
from pgherd.model.facts import SyncState
from pgherd.model.ids import Instant, NodeId
from pgherd.model.observation import Heard
from pgherd.pki.authority import make_ca

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


async def let_go(herd) -> None:
    """What the deciders do with a leaving member, in one step."""
    await asyncio.sleep(0.02)
    [member] = [one for one in herd.current.members.values() if one.leaving]
    herd.current = msgspec.structs.replace(herd.current, sync=SyncState())
    herd.must(cmd.RemoveMember(member.node, member.raft_id))


def silence(herd, node: NodeId) -> None:
    herd.heard[node] = Heard(herd.heard[node].report, Instant(0))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/api/v1/cluster/nodes/n3", None),
        ("DELETE", "/api/v1/cluster/nodes/3", None),
        ("POST", "/raft/remove-peer", {"node": "n3"}),
        ("POST", "/raft/remove-peer", {"id": "3"}),
    ],
)
def test_a_member_is_removed(herd, client, method, path, body):
    """The answer comes once it is gone, and names who is left."""
    herd.react = let_go
    answer = client.request(method, path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "status": "done",
        "node": "n3",
        "raft_id": 3,
        "members": ["n1", "n2"],
    }
    assert herd.submitted == [cmd.AskLeave(N3, "anybody from testclient")]


def test_an_upgrade_can_be_watched(herd, client):
    """Each member's level, and the ledger's, which is raised when the last one has it."""
    for node, level in ((N1, 1), (N2, 1), (N3, 2)):
        mine = herd.current.members[node]
        herd.must(cmd.UpdateMember(node, mine.kind, mine.address, mine.tags, 2))
        peers = client.get("/raft/peers").json()["peers"]
        assert next(one["level"] for one in peers if one["node"] == node) == 2
        assert client.get("/raft/state").json()["ledger_level"] == level


def test_without_waiting(herd, client):
    """`wait=0` is accepted at once; the wish stands in the ledger and shows."""
    answer = client.delete("/api/v1/cluster/nodes/n3?wait=0")
    assert (answer.status_code, answer.json()["status"]) == (202, "accepted")
    assert herd.current.members[N3].leaving
    peers = client.get("/raft/peers").json()["peers"]
    assert [one["is_leaving"] for one in peers] == [False, False, True]
    assert "n3 is being removed" in client.get("/api/v1/cluster/status").json()["problems"]


def test_one_that_does_not_go_is_told_of(client):
    """The wait ends, the removal does not."""
    answer = client.delete("/api/v1/cluster/nodes/n3?wait=0.05")
    assert (answer.status_code, answer.json()["code"]) == (503, "timed_out")
    assert "goes on" in answer.json()["message"]


def test_what_is_refused(herd, client):
    """The primary, a stranger, and a voter without whom there would be no quorum."""
    answer = client.delete("/api/v1/cluster/nodes/n1")
    assert (answer.status_code, answer.json()["code"]) == (412, "is_primary")
    assert "pgherd switchover" in answer.json()["hint"]
    assert client.delete("/api/v1/cluster/nodes/n9").status_code == 404
    silence(herd, N2)
    answer = client.delete("/api/v1/cluster/nodes/n3")
    assert (answer.status_code, answer.json()["code"]) == (412, "would_lose_quorum")
    assert "n2 does not" in answer.json()["message"]
    assert not any(one.leaving for one in herd.current.members.values())
    herd.react = let_go
    assert client.delete("/api/v1/cluster/nodes/n2").status_code == 200, "the silent one may go"
    herd.has_quorum = False
    assert client.delete("/api/v1/cluster/nodes/n3").status_code == 503


@pytest.mark.parametrize(("alive", "status"), [(True, 202), (False, 412)])
def test_who_died_a_moment_ago_does_not_count(herd, client, alive, status):
    """n2 was heard lately; whether it is there now shows a moment after the question."""
    herd.heard[N2] = Heard(herd.heard[N2].report, Instant(herd.clock_ms - 700))

    def time_goes_by() -> None:
        herd.clock_ms += 1000
        for node in (N1, N2) if alive else (N1,):
            herd.heard[node] = Heard(herd.heard[node].report, Instant(herd.clock_ms))

    timer = threading.Timer(0.2, time_goes_by)
    timer.start()
    answer = client.delete("/api/v1/cluster/nodes/n3?wait=0")
    timer.join()
    assert answer.status_code == status
    assert herd.current.members[N3].leaving == alive


def test_a_node_is_invited(herd, make_client):
    """The answer is a token and the command for the new machine."""
    ca = make_ca("main").certificate_pem
    client = make_client(herd, ca_pem=lambda: ca)
    answer = client.post(
        "/api/v1/cluster/nodes", json={"name": "n4", "address": "10.0.0.4", "witness": True}
    )
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert found["command"] == (
        f"pgherd join --name n4 --token {found['token']} --start --address 10.0.0.4 --witness"
    )
    assert found["id"] in herd.current.tokens
    assert "--name NAME --token" in client.post("/raft/add-peer").json()["command"]
    taken = client.post("/raft/add-peer", json={"node": "n2"})
    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")
    assert make_client(herd).post("/raft/add-peer").json()["code"] == "no_authority"


def test_the_lead_of_consensus_moves(herd, client):
    """To whom was named, or to a voter that is not the primary."""
    answer = client.post("/raft/transfer-leadership")
    assert answer.json() == {"status": "done", "old_leader": "n2", "new_leader": "n3"}
    answer = client.post("/raft/transfer-leadership", json={"to": "2"})
    assert answer.json()["new_leader"] == "n2"
    for to, code in (("n1", "cannot_lead"), ("n9", "unknown_node")):
        refused = client.post("/raft/transfer-leadership", json={"to": to})
        assert refused.json()["code"] == code, to
    silence(herd, N3)
    assert client.post("/raft/transfer-leadership").json()["code"] == "nobody"
    herd.has_quorum = False
    assert client.post("/raft/transfer-leadership").json()["code"] == "no_quorum"
