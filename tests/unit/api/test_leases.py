"""Proves what the API says of the primary's lease, and when its end is a problem."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pgherd.api.schema import Lease
from pgherd.ledger import commands as cmd
from pgherd.model.facts import SyncState
from pgherd.model.ids import NodeId, Term

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
EXPIRE = cmd.ExpireLease(id=2, renew_seq=0, rule=901, reason="n1 did not renew its lease")


def status(client) -> dict:
    return client.get("/api/v1/cluster/status").json()


def lease(client) -> Lease:
    return Lease(**status(client)["lease"])


def test_the_primary_tells_what_is_left_of_its_lease(herd, client):
    """Its own health has the seconds, status has them from its report; a replica holds none."""
    assert client.get("/api/v1/health").json()["lease_seconds_left"] == 9.0
    assert lease(client) == Lease(
        holder="n1", state="held", seconds_left=9.0, ttl_seconds=10.0, is_sole=True
    )
    herd.node = N2
    assert client.get("/api/v1/health").json()["lease_seconds_left"] is None
    assert status(client)["problems"] == []


@pytest.mark.parametrize(
    ("voters", "effect"), [(True, "that stops no write"), (False, "writes wait")]
)
def test_a_lease_that_ran_out_is_a_problem(herd, client, voters, effect):
    """Consensus may not know of it: the holder's own clock does."""
    herd.lease_left(N1, 0)
    if not voters:
        herd.current = replace(herd.current, sync=SyncState())
    shown = status(client)
    assert (shown["lease"]["state"], shown["lease"]["seconds_left"]) == ("lost", 0.0)
    [text] = [text for text in shown["problems"] if "lease" in text]
    assert text == f"the lease of n1 ran out, consensus does not renew it: {effect}" + (
        "" if voters else ", no standby has them"
    )
    assert shown["status"] == "degraded"


def test_an_expired_lease_and_a_silent_holder(herd, client):
    """expired: the ledger says so, whatever the holder counts. unknown: nobody hears the holder."""
    herd.must(EXPIRE)
    assert lease(client).state == "expired"
    assert any("lease" in text for text in status(client)["problems"])
    herd.clock_ms += 5000
    herd.must(
        cmd.GrantLease(
            term=Term(2),
            holder=herd.current.members[N1].key,
            expected=2,
            ttl_ms=10_000,
            rule=903,
            reason="back",
        )
    )
    assert (lease(client).state, lease(client).seconds_left) == ("unknown", None)
    assert not any("lease" in text for text in status(client)["problems"])


def test_a_winners_lease_is_not_sole_while_the_old_one_may_count(herd, client):
    """After a failover the old primary may still count on its own."""
    herd.elect(N2, rule=203, reason="n1 is silent")
    herd.everybody(N2)
    assert (lease(client).holder, lease(client).is_sole) == ("n2", False)
    herd.must(EXPIRE)
    assert lease(client).is_sole
