"""Who has which address, as the API shows it from what the nodes report."""

from __future__ import annotations

import msgspec

from pgherd.model.ids import NodeId
from pgherd.model.vip import Follow, VipSeen

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
MAIN, READS = "10.0.1.100", "10.0.1.101"


def told(herd, node: NodeId, *vips: VipSeen) -> None:
    """Change what a node reports of its addresses."""
    heard = herd.heard[node]
    report = msgspec.structs.replace(heard.report, vips=vips)
    herd.heard[node] = msgspec.structs.replace(heard, report=report)


def vip(address: str = MAIN, follow: Follow = Follow.PRIMARY, **more) -> VipSeen:
    return VipSeen(address, follow, "eth0", **more)


def test_a_herd_without_addresses_shows_none(client):
    assert client.get("/api/v1/vip").json() == {"vips": []}
    assert client.get("/api/v1/cluster/status").json()["vips"] == []
    assert client.get("/health").json()["vip_owner"] is None


def test_the_owner_is_who_says_so(herd, client):
    reads = vip(READS, Follow.REPLICA)
    told(herd, N1, vip(READS, Follow.REPLICA, problem="no such interface"), vip(owned=True))
    told(herd, N2, vip(READS, Follow.REPLICA, owned=True), vip(claimed_by="02:00:00:00:00:07"))
    told(herd, N3, reads)
    main, other = client.get("/api/v1/vip").json()["vips"]
    assert (main["address"], main["follow"], main["vip_owner"]) == (MAIN, "primary", "n1")
    assert (other["address"], other["vip_owner"], other["owners"]) == (READS, "n2", ["n2"])
    assert [one["node"] for one in main["nodes"]] == ["n1", "n2"], "n3 has it not in its file"
    assert main["nodes"][1]["claimed_by"] == "02:00:00:00:00:07"
    assert other["nodes"][0]["problem"] == "no such interface"
    status = client.get("/api/v1/cluster/status").json()
    assert (status["vips"], status["problems"]) == ([main, other], [])
    for node in ("n1", "n2"):
        herd.node = NodeId(node)
        assert client.get("/health").json()["vip_owner"] == "n1"


def test_an_address_that_nobody_has_is_a_problem(herd, client):
    told(herd, N1, vip())
    told(herd, N2, vip(owned=True))
    herd.silence(N2)
    status = client.get("/api/v1/cluster/status").json()
    assert f"nobody has the address {MAIN} (follows the primary)" in status["problems"]
    assert client.get("/health").json()["vip_owner"] is None


def test_an_address_that_two_have_is_a_problem(herd, client):
    told(herd, N1, vip(owned=True))
    told(herd, N2, vip(owned=True))
    [one] = client.get("/api/v1/vip").json()["vips"]
    assert (one["vip_owner"], one["owners"]) == (None, ["n1", "n2"])
    [problem] = client.get("/api/v1/cluster/status").json()["problems"]
    assert "is on n1 and n2" in problem
