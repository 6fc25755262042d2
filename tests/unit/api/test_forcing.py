"""An election that waits for ever: what is told of it, and how it is ended by a person."""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace
from starlette.testclient import TestClient

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model.ids import NodeId, Term, Timeline

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
FASTER = 50


@pytest.fixture
def client(herd, make_client) -> TestClient:
    """The API over the herd, for which time goes fast."""
    return make_client(herd, clock=lambda: time.monotonic() * FASTER)


def stuck(herd) -> None:
    """n1 and n2 are gone, which may have had what n3 has not; n3 is sealed."""
    herd.current = replace(herd.current, level=LEVEL)
    herd.must(cmd.Begin(expected=Term(2), elector=N3, rule=203, reason="n1 is silent"))
    herd.silence(N1)
    herd.silence(N2)
    herd.seal(N3, elector=N3)


async def go_on_without(herd) -> None:
    order = herd.current.given_up
    assert order is not None
    start = herd.heard[N3].report.promises.frozen.position
    herd.must(
        cmd.Elect(
            term=Term(3),
            elector=N3,
            winner=herd.current.members[N3].key,
            start=start,
            promoted=True,
            voters=(),
            k=0,
            rule=308,
            reason="most of what is left",
            lost=order.lost,
        ),
        cmd.Establish(term=Term(3), timeline=Timeline(3), epoch_record_end=start.lsn, names=()),
    )
    herd.everybody(N3)


def test_what_an_election_waits_for_is_given_up_only_by_name(herd, client):
    """Without names it is refused, with the command; too few names, or too much lost, as well."""
    stuck(herd)
    command = "pgherd failover --force --lost n1 --lost n2"
    problems = client.get("/api/v1/cluster/status").json()["problems"]
    assert any("0 of 2" in one or "1 of 2 needed voters" in one for one in problems), problems
    assert any(command in one for one in problems)
    for body in ({}, {"force": True}):
        refused = client.post("/api/v1/failover", json=body)
        assert (refused.status_code, refused.json()["code"]) == (412, "voters_missing")
        assert command in refused.json()["hint"]
    alone = client.post("/api/v1/failover", json={"force": True, "lost": ["n1"]})
    assert (alone.status_code, alone.json()["code"]) == (412, "not_given_up")
    assert alone.json()["message"].startswith("n2 may hold what nobody else does")
    dear = {"force": True, "lost": ["n1", "n2"], "accept_data_loss_bytes": 7}
    found = client.post("/api/v1/failover", json=dear)
    assert (found.status_code, found.json()["code"]) == (412, "too_much_loss")
    assert "8 bytes of WAL would be lost" in found.json()["message"]
    plain = client.post("/api/v1/failover", json={"lost": ["n1"]})
    assert (plain.status_code, plain.json()["hint"]) == (422, "add force")
    stranger = client.post("/api/v1/failover", json={"force": True, "lost": ["n9"]})
    assert stranger.status_code == 404
    assert herd.submitted == []


def test_a_loss_is_planned_then_ordered_then_written_down(herd, client):
    """The plan changes nothing; the order elects who is left, and the history says what for."""
    stuck(herd)
    body = {"force": True, "lost": ["n1", "n2"], "accept_data_loss_bytes": 8}
    plan = client.post("/api/v1/failover/plan", json=body).json()
    assert (plan["needed"], plan["missing"], plan["loss_bytes"]) == (True, ["n1", "n2"], 8)
    assert plan["not_given_up"] == []
    assert herd.submitted == []
    herd.react = go_on_without
    done = client.post("/api/v1/failover", json=body)
    assert (done.status_code, done.json()["new_primary"]) == (200, "n3"), done.json()
    history = client.get("/api/v1/history").json()
    assert history["reigns"][-1]["gave_up"] == ["n1", "n2"]
    assert "8 bytes by the last that was heard" in history["reigns"][-1]["reason"]
    assert "data.loss-accepted" in [note["kind"] for note in history["notes"]]
    assert client.post("/api/v1/failover/plan").json()["needed"] is False


def test_an_order_that_the_elector_does_not_follow_is_told_as_that(herd, client):
    """It may know of more that would be lost; the lease of the lost one is waited for before."""
    stuck(herd)
    lease = herd.current.lease
    herd.must(cmd.ExpireLease(id=lease.id, renew_seq=lease.renew_seq, rule=901, reason="over"))
    body = {"force": True, "lost": ["n1", "n2"]}
    refused = client.post("/api/v1/failover", json=body)
    assert (refused.status_code, refused.json()["code"]) == (412, "not_elected")
    assert "n3 does not elect anybody" in refused.json()["message"]
    assert [type(one) for one in herd.submitted] == [cmd.GiveUp]


async def fail_over(herd) -> None:
    herd.elect(N2, rule=201, reason="ordered")
    herd.everybody(N2)


def test_nothing_is_given_up_where_the_election_ends_by_itself(herd, client):
    """Names are for the case that it does not."""
    herd.react = fail_over
    done = client.post("/api/v1/failover", json={"force": True, "lost": ["n3"]})
    assert (done.status_code, done.json()["new_primary"]) == (200, "n2")
    assert [type(one) for one in herd.submitted] == [cmd.RequestFailover]
