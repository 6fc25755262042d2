"""Proves what the API derives from facts and reports: roles, states, lag, health, split brain."""

from __future__ import annotations

import msgspec
import pytest

from pgherd.api import stories, views
from pgherd.api.herd import RaftRole
from pgherd.api.views import Seen
from pgherd.ledger import commands as cmd
from pgherd.model.facts import Address, Facts, Frozen, Handover, Kind
from pgherd.model.ids import CLOSED_NAME, Lsn, NodeId, Position, Term
from pgherd.model.observation import Server

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def seen_of(herd, me=N1) -> Seen:
    return Seen(
        me=me,
        facts=herd.facts(),
        reports=herd.reports(),
        noticed=herd.noticed(),
        now=herd.now(),
        raft=herd.raft(),
        unix_ms=herd.unix_ms,
    )


def by_name(herd) -> dict:
    return {node.name: node for node in views.nodes(seen_of(herd)).nodes}


def test_a_whole_herd_is_operational(herd):
    """Three nodes that do what they should: no problem is named."""
    status = views.status(seen_of(herd))
    assert (status.status, status.failover_state) == ("operational", "normal")
    assert (status.primary_node_id, status.epoch, status.healthy_nodes) == ("n1", 2, 3)
    assert status.problems == []
    assert status.synchronous.voters == ["n2", "n3"]
    assert not status.synchronous.degraded
    nodes = by_name(herd)
    assert [node.role for node in nodes.values()] == ["primary", "replica", "replica"]
    assert [node.state for node in nodes.values()] == ["running", "streaming", "streaming"]


def test_two_votes_are_marked_while_both_are_there_and_when_one_is_not(herd):
    """A pair works, warns, and says what is left to do once one of both is silent."""
    pair = msgspec.structs.replace(herd.raft(), voters=herd.raft().voters[:2])
    status = views.status(msgspec.structs.replace(seen_of(herd), raft=pair))
    assert (status.status, status.problems) == ("operational", [])
    assert [text for text in status.warnings if "n1 and n2 are all that vote" in text]
    assert views.status(seen_of(herd)).warnings == []
    alone = msgspec.structs.replace(pair, leader=None)
    [_, told] = views.problems(msgspec.structs.replace(seen_of(herd), raft=alone))[:2]
    assert "n2 is silent: nobody is made primary by itself" in told
    assert "pgherd raft recover" in told
    assert "pgherd add-node" in told


def test_amnesia_is_said_wherever_one_looks(herd):
    """Such a node knows no herd: its status and its health check say why."""
    herd.current = Facts(cluster="main")
    forgot = msgspec.structs.replace(
        herd.raft(), role=RaftRole.AMNESIA, leader=None, amnesia="its store is damaged; n1: wait"
    )
    seen = msgspec.structs.replace(seen_of(herd), raft=forgot)
    status = views.status(seen)
    assert status.status == "down"
    assert status.problems == [
        "n1 has amnesia and takes no part: its store is damaged; n1: wait",
    ]
    check = views.check(seen, proxy=None, version="1")
    assert (check.status, check.state, check.has_quorum) == ("degraded", "amnesia", False)


def test_lag_is_measured_against_the_primary(herd):
    """A replica cut off an hour ago shows how far the primary has gone on without it."""
    herd.report_server(N2, receiver=None, position=Position(Term(2), Lsn(0x3000100)))
    herd.heard[N2] = msgspec.structs.replace(herd.heard[N2], at=herd.clock_ms - 3_600_000)
    node = by_name(herd)["n2"]
    assert node.lag_bytes == 0x4000000 - 0x3000100
    assert (node.state, node.is_healthy) == ("unreachable", False)
    assert views.health(seen_of(herd)).replication_lag_bytes == 8


def test_a_diverged_position_has_no_lag(herd):
    """WAL past the point where the new reign began is not behind: it is elsewhere."""
    herd.report_server(N3, position=Position(Term(1), Lsn(0x3000010)))
    assert by_name(herd)["n3"].lag_bytes is None


@pytest.mark.parametrize(
    ("server", "state"),
    [
        (Server.NONE, "empty"),
        (Server.UNUSABLE, "unusable"),
        (Server.STOPPED, "stopped"),
        (Server.STARTING, "starting"),
        (Server.HUNG, "hung"),
        (Server.PRIMARY, "closed"),
    ],
)
def test_a_replica_shows_what_its_server_does(herd, server, state):
    """Every state of a server has its word; a primary that the ledger did not name is closed."""
    herd.report_server(N2, state=server, receiver=None, names=f'"{CLOSED_NAME}"')
    node = by_name(herd)["n2"]
    assert (node.role, node.state, node.is_healthy) == ("replica", state, False)


def test_an_unheard_member_is_unknown(herd):
    """A member of which there was never a report."""
    address = Address(host="127.0.0.1", raft_port=9999)
    herd.must(cmd.AddMember(node=NodeId("w1"), kind=Kind.WITNESS, address=address))
    node = by_name(herd)["w1"]
    assert (node.role, node.state, node.last_seen, node.lag_bytes) == (
        "witness",
        "unknown",
        None,
        None,
    )


def test_a_silent_primary_is_being_detected(herd):
    """The ledger still names it, its report is old: no writes, and nobody is elected yet."""
    herd.clock_ms += 5_000
    for node in (N2, N3):
        herd.replica(node, leader=N1)
    status = views.status(seen_of(herd, me=N2))
    assert (status.status, status.failover_state) == ("down", "detecting")
    assert "n1 is unreachable" in status.problems
    assert not views.is_primary(seen_of(herd), N1)


def test_failover_states_follow_the_phases(herd):
    """sealing while ELECTING, promoting while ESTABLISHING, switchover when one is under way."""
    herd.must(cmd.Begin(expected=Term(2), elector=N2, rule=202, reason="n1 is silent"))
    assert views.failover_state(seen_of(herd)) == "sealing"
    assert views.primary_of(seen_of(herd)) is None
    assert by_name(herd)["n1"].role == "replica"
    herd.must(
        cmd.Elect(
            term=Term(3),
            elector=N2,
            winner=herd.current.members[N2].key,
            start=Position(Term(2), Lsn(0x4000000)),
            promoted=True,
            voters=(herd.current.members[N3].key,),
            k=1,
            rule=301,
            reason="n2 is complete",
        )
    )
    assert views.failover_state(seen_of(herd)) == "promoting"
    assert by_name(herd)["n2"].role == "primary"
    assert views.status(seen_of(herd)).status == "down"


def test_a_wished_switchover_shows_at_once(herd):
    """The wish alone, and the handover's own electing phase."""
    herd.must(cmd.RequestSwitchover(id="s1", candidate=N2, requested_by="me"))
    assert views.failover_state(seen_of(herd)) == "switchover"
    handover = Handover(switchover="s1", candidate=N2)
    herd.must(
        cmd.Begin(expected=Term(2), elector=N2, rule=603, reason="switchover", handover=handover)
    )
    assert views.failover_state(seen_of(herd)) == "switchover"


def test_a_sealed_standby_says_so(herd):
    """During an election a standby that froze its position is sealed."""
    herd.must(cmd.Begin(expected=Term(2), elector=N2, rule=202, reason="n1 is silent"))
    heard = herd.heard[N3]
    frozen = Frozen(term=Term(3), position=Position(Term(2), Lsn(5)))
    promises = msgspec.structs.replace(heard.report.promises, frozen=frozen)
    report = msgspec.structs.replace(heard.report, promises=promises)
    herd.heard[N3] = msgspec.structs.replace(heard, report=report)
    herd.report_server(N3, receiver=None)
    assert by_name(herd)["n3"].state == "sealed"


def test_a_returning_replica_means_recovering(herd):
    """Writes work, but a living node does not stream yet: degraded and recovering."""
    herd.report_server(N3, receiver=None, state=Server.STARTING)
    status = views.status(seen_of(herd))
    assert (status.status, status.failover_state) == ("degraded", "recovering")


def test_a_dead_replica_is_degraded_but_normal(herd):
    """A node that nobody hears does not keep the herd in a state of failover."""
    herd.clock_ms += 5_000
    herd.primary(N1, replicas=(N2,))
    herd.replica(N2, leader=N1)
    status = views.status(seen_of(herd))
    assert (status.status, status.failover_state) == ("degraded", "normal")
    assert status.problems == ["n3 is unreachable"]


@pytest.mark.parametrize("change", ["closed", "alone", "unhealthy"])
def test_writes_need_an_open_gate_and_k_standbys(herd, change):
    """Closed names, too few streaming standbys, or a failed probe: no commit is acknowledged."""
    if change == "closed":
        herd.report_server(N1, names=f'"{CLOSED_NAME}"')
    elif change == "alone":
        herd.report_server(N1, senders=())
    else:
        herd.report_server(N1, healthy=False)
    assert not views.can_write(seen_of(herd))
    assert views.health(seen_of(herd)).cluster_status == "down"


def test_a_rebuilt_directory_is_not_the_primary(herd):
    """The same name with another incarnation is another member."""
    heard = herd.heard[N1]
    promises = msgspec.structs.replace(heard.report.promises, incarnation="ffffff")
    report = msgspec.structs.replace(heard.report, promises=promises)
    herd.heard[N1] = msgspec.structs.replace(heard, report=report)
    assert not views.is_primary(seen_of(herd), N1)


def test_two_open_primaries_are_a_split_brain(herd):
    """What the protocol forbids is looked for all the same."""
    assert not views.split_brain(seen_of(herd))
    herd.report_server(N3, state=Server.PRIMARY, names="")
    assert views.split_brain(seen_of(herd))
    assert any("split brain" in problem for problem in views.problems(seen_of(herd)))


def test_an_unborn_cluster_is_down():
    """Before the first data directory there is nothing to fail over."""
    from pgherd.api.herd import RaftRole, RaftSeen

    raft = RaftSeen(role=RaftRole.FOLLOWER, term=0, leader=None, commit=0, applied=0)
    seen = Seen(me=N1, facts=Facts("main"), reports={}, now=0, raft=raft, unix_ms=1)
    status = views.status(seen)
    assert (status.status, status.failover_state, status.has_quorum) == ("down", "normal", False)
    assert status.last_topology_change is None


def test_members_are_found_by_name_or_number(herd):
    """`2` means n2 where that is unambiguous."""
    facts = herd.facts()
    assert views.find_member(facts, "n2").node == "n2"
    assert views.find_member(facts, "2").node == "n2"
    assert views.find_member(facts, "9") is None
    assert views.find_member(facts, "x") is None


def test_history_names_what_began_each_reign(herd):
    """Kinds follow the hundreds of the rule that began the reign."""
    herd.elect(N2, rule=603, reason="switchover to n2")
    told = stories.history(herd.facts(), limit=10)
    assert [reign.kind for reign in told.reigns] == ["bootstrap", "failover", "switchover"]
    assert told.reigns[-1].primary == "n2"
    assert told.notes[-1].kind == "term.established"
    assert len(stories.history(herd.facts(), limit=1).reigns) == 1
