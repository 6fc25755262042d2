"""Proves `pgherd topology`: who streams from whom as a tree, and what is wrong with it."""

from __future__ import annotations

import json

import msgspec

from pgherd.model.facts import Tags
from pgherd.model.ids import NodeId

N1, N3 = NodeId("n1"), NodeId("n3")


def follow(herd, node: str, above: str) -> None:
    """A replica streams from this member, and follows n1 with that."""
    term = herd.current.term
    host, port = herd.current.members[NodeId(above)].address.postgres()
    at = "" if above == "n1" else f"{host}:{port}"
    herd.report_server(NodeId(node), upstream=N1, upstream_term=term, fed_at=at)


def tagged(herd, **tags: object) -> None:
    own = msgspec.structs.replace(herd.current.members[N3], tags=Tags(**tags))
    members = {**herd.current.members, N3: own}
    herd.current = msgspec.structs.replace(herd.current, members=members)


def test_topology_is_drawn_as_a_tree(herd, served, pgherd):
    """Whoever streams from nobody begins a line; problems come after it."""
    url = ("--api-url", served.url)
    tagged(herd, replicatefrom="n2")
    follow(herd, "n2", "n1")
    follow(herd, "n3", "n2")
    drawn = pgherd("topology", *url)
    assert drawn.code == 0, drawn.err
    assert drawn.out.splitlines() == [
        "n1  primary, running",
        "└─ n2  replica, streaming, sync",
        "   └─ n3  replica, streaming, sync",
    ]
    told = json.loads(pgherd("topology", *url, "-o", "json").out)
    assert [one["upstream"] for one in told] == [None, "n1", "n2"]
    tagged(herd, replicatefrom="n9", delay_ms=90_000)
    follow(herd, "n3", "n1")
    lines = pgherd("topology", *url).out.splitlines()
    assert lines[1:3] == [
        "├─ n2  replica, streaming, sync",
        "└─ n3  replica, streaming, sync, delay 90 s",
    ]
    assert lines[3].startswith("! n3: node.tags.replicatefrom: n9 is no member")
