"""Proves what the API says of votes: who has one, who does not, why, and how many there may be."""

from __future__ import annotations

import msgspec
import pytest

from pgherd.ledger import commands as cmd
from pgherd.model.facts import Address, Kind
from pgherd.model.ids import NodeId, RaftId
from pgherd.telemetry.metrics import Metrics

N3, N4 = NodeId("n3"), NodeId("n4")
replace = msgspec.structs.replace


@pytest.fixture
def four(herd):
    """Three of four members vote, and that is all that may."""
    herd.must(
        cmd.AddMember(N4, Kind.DATA, Address(host="h4", raft_port=1)), cmd.SetMaxVoters(3, "ann")
    )
    herd.learners = (RaftId(4),)
    return herd


def peer(client, name: str) -> dict:
    [found] = [one for one in client.get("/raft/peers").json()["peers"] if one["node"] == name]
    return found


def told(client, name: str) -> tuple[str, str]:
    found = peer(client, name)
    return found["suffrage"], found["why"]


def test_who_stands_by_is_told_from_who_learns(four, client):
    """The same learner of consensus: with a seat free it will vote, without it stands by."""
    assert told(client, "n1") == ("voter", "votes")
    assert told(client, "n4") == (
        "non-voter",
        "stands by: raft.max_voters is 3, and that many vote",
    )
    assert client.get("/raft/peers").json()["max_voters"] == 3
    four.must(cmd.SetMaxVoters(5, "ann"))
    assert told(client, "n4") == (
        "learner",
        "votes once it has the log: it has not been heard yet",
    )
    four.heard[N4] = replace(
        four.heard[N3], report=replace(four.heard[N3].report, node=N4, applied_index=30)
    )
    assert told(client, "n4")[1] == "votes once it has the log: 11 entries behind"
    four.learners = ()
    assert told(client, "n4") == ("voter", "votes")


def test_who_leaves_who_is_silent_and_who_only_votes(four, client):
    """Each with its own word."""
    members = four.current.members
    witness = replace(members[N3], kind=Kind.WITNESS, incarnation="")
    four.current = replace(four.current, members={**members, N3: witness})
    assert told(client, "n3") == ("witness", "votes, holds no data")
    four.heard[N3] = replace(four.heard[N3], at=four.clock_ms - 61_000)
    assert told(client, "n3")[1] == "votes, holds no data, silent for 61 s"
    proxy = replace(members[N4], kind=Kind.PROXY, voter=False)
    four.current = replace(four.current, members={**members, N4: proxy}, max_voters=5)
    assert told(client, "n4") == ("non-voter", "a proxy node never votes")
    four.current = replace(four.current, max_voters=3)
    leaving = replace(members[N3], leaving=True)
    four.current = replace(four.current, members={**members, N3: leaving})
    assert told(client, "n3") == ("voter", "is being removed")
    assert told(client, "n4")[0] == "learner", "there is a seat for it now"


def test_state_and_status_name_the_voters(four, client):
    """Both say who votes; state says what the node itself is."""
    state = client.get("/raft/state").json()
    assert (state["suffrage"], state["max_voters"]) == ("voter", 3)
    assert state["voters"] == ["n1", "n2", "n3"]
    assert client.get("/api/v1/cluster/status").json()["raft_voters"] == ["n1", "n2", "n3"]
    votes = {one["name"]: one["is_voter"] for one in client.get("/api/v1/nodes").json()["nodes"]}
    assert votes == {"n1": True, "n2": True, "n3": True, "n4": False}


def test_how_many_voters_may_still_fail_is_measured(four, make_client):
    """Of three answering voters one; of two none. Who stands by does not count."""
    client = make_client(four, metrics=Metrics(node=NodeId("n1"), version="0.1.0"))
    assert "pgherd_raft_voters_spare 1.0" in client.get("/metrics").text
    four.heard[N3] = replace(four.heard[N3], at=four.clock_ms - 61_000)
    found = client.get("/metrics").text
    assert "pgherd_raft_voters 3.0" in found
    assert "pgherd_raft_voters_spare 0.0" in found


def test_the_limit_is_changed_through_the_ledger(four, client):
    """1 to 7; anything else is refused before and in the ledger."""
    answer = client.put("/raft/max-voters", json={"max_voters": 5})
    assert (answer.status_code, answer.json()) == (200, {"max_voters": 5})
    assert four.current.max_voters == 5
    assert four.current.notes[-1].kind == "voters.limited"
    for wrong in (0, 8, "many", None):
        assert client.put("/raft/max-voters", json={"max_voters": wrong}).status_code == 422
    refused = four.apply(cmd.SetMaxVoters(8, "ann"))
    assert isinstance(refused, cmd.Refused)
    assert refused.reason == "1 to 7 members may vote, not 8"
    assert four.current.max_voters == 5
    four.has_quorum = False
    assert client.put("/raft/max-voters", json={"max_voters": 3}).status_code == 503


def test_a_voter_goes_when_another_takes_its_vote(four, client):
    """n3 is silent: without n2 nobody could decide, unless n4 answers and votes in its place."""
    four.heard[N3] = replace(four.heard[N3], at=four.clock_ms - 61_000)
    refused = client.delete("/api/v1/cluster/nodes/n2?wait=0")
    assert (refused.status_code, refused.json()["code"]) == (412, "would_lose_quorum")
    four.heard[N4] = replace(
        four.heard[N3], report=replace(four.heard[N3].report, node=N4), at=four.clock_ms
    )
    assert client.delete("/api/v1/cluster/nodes/n2?wait=0").status_code == 202
