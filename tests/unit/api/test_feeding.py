"""Proves what the API shows of cascading and delayed replicas."""

from __future__ import annotations

import msgspec

from pgherd.api import syncviews, views
from pgherd.api.views import Seen
from pgherd.model.facts import Tags
from pgherd.model.ids import NodeId, Term
from pgherd.model.observation import Sender, Server

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
replace = msgspec.structs.replace


def seen_of(herd) -> Seen:
    return Seen(
        me=N1,
        facts=herd.facts(),
        reports=herd.reports(),
        noticed=herd.noticed(),
        now=herd.now(),
        raft=herd.raft(),
        unix_ms=herd.unix_ms,
    )


def tagged(herd, **tags: object) -> None:
    """n3 gets these tags."""
    own = replace(herd.current.members[N3], tags=Tags(**tags))
    herd.current = replace(herd.current, members={**herd.current.members, N3: own})


def follow(herd, node: NodeId, **server: object) -> None:
    """A replica that follows n1 in this term, as it says itself, and its promises with it."""
    term = herd.current.term
    herd.report_server(node, upstream=N1, upstream_term=term, **server)
    heard = herd.heard[node]
    own = replace(heard.report.promises, adopted=term, adopted_leader=N1, promise=term)
    herd.heard[node] = replace(heard, report=replace(heard.report, promises=own))


def fed_by_n2(herd) -> None:
    tagged(herd, replicatefrom="n2")
    member = herd.current.members[N3]
    there = herd.heard[N3].report.server
    position = there.position.lsn
    sender = Sender(member.key, herd.current.term, "streaming", position, position)
    follow(herd, N2, senders=(sender,))
    host, port = herd.current.members[N2].address.postgres()
    follow(herd, N3, fed_at=f"{host}:{port}")


def by_name(herd) -> dict:
    return {node.name: node for node in views.nodes(seen_of(herd)).nodes}


def test_who_streams_from_whom(herd):
    """As it says itself; and a chain is whole although the primary sends nothing to its end."""
    fed_by_n2(herd)
    nodes = by_name(herd)
    assert [(one.upstream, one.state) for one in nodes.values()] == [
        (None, "running"),
        ("n1", "streaming"),
        ("n2", "streaming"),
    ]
    assert nodes["n3"].tags.replicatefrom == "n2"
    assert nodes["n3"].upstream_reason == ""
    assert views.status(seen_of(herd)).warnings == []


def test_why_a_replica_is_not_where_its_file_wants_it(herd):
    """A name that cannot be followed, and an upstream that is not well: both are told."""
    tagged(herd, replicatefrom="n9")
    follow(herd, N3)
    [told] = views.status(seen_of(herd)).warnings
    assert told.startswith("n3: node.tags.replicatefrom: n9 is no member: name one of n1, n2")
    tagged(herd, replicatefrom="n2")
    follow(herd, N2, receiver=None)
    assert by_name(herd)["n3"].upstream_reason == "n2 does not stream itself"
    tagged(herd, replicatefrom="n1")
    assert views.status(seen_of(herd)).warnings == []


def test_a_delayed_replica_is_healthy_and_says_how_late(herd):
    """Also while it asks for nothing more, because it has not replayed what it has."""
    tagged(herd, delay_ms=3_600_000)
    follow(herd, N3, delay_ms=3_600_000, delays=True, receiver=None)
    one = by_name(herd)["n3"]
    assert (one.state, one.is_healthy) == ("delayed", True)
    assert one.state_reason == "replays what is older than 3600 s"
    assert views.status(seen_of(herd)).status == "operational"
    seen = seen_of(herd)
    out = replace(seen.facts, sync=replace(seen.facts.sync, voters=seen.facts.sync.voters[:1]))
    member = out.members[N3]
    assert syncviews.why_not(replace(seen, facts=out), member, None, None) == (
        "it is a delayed replica"
    )


def test_who_streams_from_another_is_no_copy_and_says_so(herd):
    fed_by_n2(herd)
    seen = seen_of(herd)
    assert syncviews.why_not(seen, seen.facts.members[N3], None, None) == "it streams from n2"


def test_the_health_check_for_replicas_leaves_a_stopped_one_out(herd):
    """The delay excuses nothing but what it explains."""
    tagged(herd, delay_ms=3_600_000)
    herd.report_server(N3, state=Server.STOPPED, upstream=None, upstream_term=Term(0))
    assert by_name(herd)["n3"].state == "stopped"
    assert not by_name(herd)["n3"].is_healthy
