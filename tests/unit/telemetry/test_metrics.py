"""Metrics say what facts and reports say, and no longer what is gone, in Prometheus' form."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from pgherd.model.archive import ArchiveSeen
from pgherd.model.facts import Address, Facts, Kind, Member, Phase
from pgherd.model.ids import Instant, Lsn, MemberKey, NodeId, Position, RaftId, Term, Timeline
from pgherd.model.observation import Observation, Sender, Server, ServerSeen
from pgherd.model.promises import Promises
from pgherd.model.slots import SlotKind, SlotSeen
from pgherd.model.vip import Follow, VipSeen
from pgherd.model.vitals import Memory, PeerSeen, Vitals
from pgherd.relay.tally import HOLD_BUCKETS_S
from pgherd.route.pooling import Pool
from pgherd.route.poolreport import PoolCounters, PoolReport
from pgherd.route.poolsteps import PoolLimits
from pgherd.telemetry.durations import FAILOVER, HISTOGRAMS, HOLD, POOL_WAIT, RAFT_APPEND
from pgherd.telemetry.metrics import (
    COUNTERS,
    GAUGES,
    HOLD_LIMITS_S,
    Metrics,
    ProxySeen,
    RaftSeen,
    ReplicaSeen,
)
from pgherd.telemetry.nodemetrics import NODE_COUNTERS, NODE_GAUGES, Known

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
RAFT = RaftSeen(term=3, state="leader", commit_index=10, applied_index=9, has_quorum=True)


def member(node: NodeId, number: int) -> Member:
    return Member(node, RaftId(number), Kind.DATA, Address(node, 1), incarnation="aaaaaa")


def report(node: NodeId, server: ServerSeen) -> Observation:
    return Observation(node, RaftId(1), sequence=1, server=server, promises=Promises())


FACTS = Facts(
    cluster="main",
    members={N1: member(N1, 1), N2: member(N2, 2), N3: member(N3, 3)},
    phase=Phase.STABLE,
    term=Term(4),
    leader=MemberKey(N1, "aaaaaa"),
)
PRIMARY = ServerSeen(
    state=Server.PRIMARY,
    timeline=Timeline(2),
    position=Position(Term(4), Lsn(1000)),
    senders=(
        Sender(MemberKey(N2, "aaaaaa"), Term(4), "streaming", Lsn(900), Lsn(900)),
        Sender(MemberKey(N3, "aaaaaa"), Term(4), "streaming", Lsn(1001), Lsn(900)),
    ),
)
REPORTS = {N1: report(N1, PRIMARY), N2: report(N2, ServerSeen(state=Server.STANDBY))}


def samples(text: bytes) -> dict[str, float]:
    """Every sample as `name{labels}` and its value."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_the_cluster_is_told_as_the_ledger_has_it() -> None:
    metrics = Metrics(node=N1, version="0.1.0")
    replicas = {N2: ReplicaSeen("streaming", 100, 1500), N3: ReplicaSeen("stuck")}
    found = samples(metrics.render(facts=FACTS, reports=REPORTS, raft=RAFT, replicas=replicas))
    assert "pgherd_replication_lag_bytes{node=n3}" not in found, "it is not known"
    expected = {
        "pgherd_build_info{version=0.1.0}": 1,
        "pgherd_cluster_nodes": 3,
        "pgherd_cluster_nodes_healthy": 2,
        "pgherd_cluster_has_quorum": 1,
        "pgherd_cluster_primary{node=n1}": 1,
        "pgherd_cluster_epoch": 4,
        "pgherd_postgres_up": 1,
        "pgherd_postgres_role{role=primary}": 1,
        "pgherd_postgres_role{role=replica}": 0,
        "pgherd_postgres_timeline": 2,
        "pgherd_replication_lag_bytes{node=n2}": 100,
        "pgherd_replication_lag_seconds{node=n2}": 1.5,
        "pgherd_replica_state{node=n2,state=streaming}": 1,
        "pgherd_replica_state{node=n3,state=stuck}": 1,
        "pgherd_raft_term": 3,
        "pgherd_raft_state{state=leader}": 1,
        "pgherd_raft_state{state=follower}": 0,
        "pgherd_raft_commit_index": 10,
        "pgherd_raft_applied_index": 9,
    }
    assert expected.items() <= found.items()


def test_what_is_gone_is_not_told_any_more() -> None:
    metrics = Metrics(node=N2, version="0.1.0")
    metrics.render(facts=FACTS, reports=REPORTS, raft=RAFT)
    electing = Facts(cluster="main", phase=Phase.ELECTING, leader=FACTS.leader)
    found = samples(metrics.render(facts=electing, reports={}, raft=RAFT))
    assert not [name for name in found if name.startswith("pgherd_cluster_primary")]
    assert not [name for name in found if name.startswith("pgherd_replication_lag_bytes")]
    assert found["pgherd_postgres_up"] == 0
    assert found["pgherd_postgres_role{role=none}"] == 1


def test_only_the_holder_of_a_lease_tells_what_is_left_of_it() -> None:
    """0 on a node that holds none would look like a lease that ran out."""
    metrics = Metrics(node=N1, version="0.1.0")
    held = msgspec.structs.replace(REPORTS[N1], lease_left_ms=8250)
    name = "pgherd_lease_seconds_left{node=n1}"
    found = samples(metrics.render(facts=FACTS, reports={N1: held}, raft=RAFT))
    assert found[name] == 8.25
    assert name not in samples(metrics.render(facts=FACTS, reports=REPORTS, raft=RAFT))


def test_slots_are_told_by_whoever_has_them() -> None:
    """What each holds back; a temporary one is nobody's business; given up ones are counted."""
    slots = (
        SlotSeen("pgherd_n2", SlotKind.PHYSICAL, Lsn(400), active=True),
        SlotSeen("pgherd_n3", SlotKind.PHYSICAL),
        SlotSeen("backup", SlotKind.PHYSICAL, Lsn(400), lost=True),
        SlotSeen("copying", SlotKind.PHYSICAL, Lsn(400), temporary=True),
    )
    own = report(N1, msgspec.structs.replace(PRIMARY, replication_slots=slots))
    metrics = Metrics(node=N1, version="0.1.0")
    metrics.gave_slot_up()
    found = samples(metrics.render(facts=FACTS, reports={N1: own}, raft=RAFT))
    told = {name: value for name, value in found.items() if name.startswith("pgherd_slot")}
    assert told == {
        "pgherd_slot_retained_bytes{slot=pgherd_n2}": 600,
        "pgherd_slot_retained_bytes{slot=pgherd_n3}": 0,
        "pgherd_slot_retained_bytes{slot=backup}": 0,
        "pgherd_slot_keeps_nothing{slot=pgherd_n2}": 0,
        "pgherd_slot_keeps_nothing{slot=pgherd_n3}": 1,
        "pgherd_slot_keeps_nothing{slot=backup}": 1,
        "pgherd_slots_given_up_total": 1,
    }


def test_the_archive_is_told_of_where_there_is_one() -> None:
    """Failures only grow, also when the agent begins anew."""
    metrics = Metrics(node=N1, version="0.1.0")
    before = samples(metrics.render(facts=FACTS, reports={N1: report(N1, PRIMARY)}, raft=RAFT))
    assert before["pgherd_archive_last_success_timestamp_seconds"] == 0
    seen = ArchiveSeen(
        place="directory /a", last_unix_ms=5000, waiting=3, failing="full", failures=2, given_up=1
    )
    own = msgspec.structs.replace(report(N1, PRIMARY), archive=seen)
    for _ in range(2):
        found = samples(metrics.render(facts=FACTS, reports={N1: own}, raft=RAFT))
    assert {name: value for name, value in found.items() if "_archive_" in name} == {
        "pgherd_archive_last_success_timestamp_seconds": 5,
        "pgherd_archive_waiting_files": 3,
        "pgherd_archive_failing": 1,
        "pgherd_archive_failures_total": 2,
        "pgherd_archive_given_up_total": 1,
    }


def test_counters_only_grow_even_when_the_proxy_starts_anew() -> None:
    metrics = Metrics(node=N1, version="0.1.0")
    name = "pgherd_proxy_connections_total{listener=primary:5432,result=opened}"
    moved = "pgherd_proxy_moved_sessions_total"
    seen = []
    for count in (5, 9, 2):
        proxy = ProxySeen(
            connections={("primary:5432", "n1"): count},
            connections_total={("primary:5432", "opened"): count},
            held=count,
            moved_total=count,
        )
        text = metrics.render(facts=FACTS, reports=REPORTS, raft=RAFT, proxy=proxy)
        found = samples(text)
        assert found["pgherd_proxy_held_clients"] == count
        assert found[name] == found[moved]
        seen.append(found[name])
    assert seen == [5, 9, 11]


def test_the_engine_is_named_only_while_it_carries() -> None:
    metrics = Metrics(node=N1, version="0.1.0")
    for engine in ("pump", "uvloop", "uring"):
        proxy = ProxySeen(engine=engine)
        found = samples(metrics.render(facts=FACTS, reports=REPORTS, raft=RAFT, proxy=proxy))
        told = {name: value for name, value in found.items() if "proxy_engine" in name}
        assert told == {f"pgherd_proxy_engine{{engine={engine}}}": 1}


def test_addresses_that_move_are_told_by_who_has_them() -> None:
    metrics = Metrics(node=N1, version="0.1.0")
    vips = tuple(
        VipSeen(address, Follow.PRIMARY, "eth0", owned=owned)
        for address, owned in (("10.0.1.100", True), ("fd00::64", False))
    )
    own = msgspec.structs.replace(REPORTS[N1], vips=vips)
    metrics.vip_moved()
    found = samples(metrics.render(facts=FACTS, reports={N1: own}, raft=RAFT))
    assert found["pgherd_vip_owned{address=10.0.1.100}"] == 1
    assert found["pgherd_vip_owned{address=fd00::64}"] == 0
    assert found["pgherd_vip_transitions_total"] == 1
    gone = samples(metrics.render(facts=FACTS, reports=REPORTS, raft=RAFT))
    assert not [name for name in gone if name.startswith("pgherd_vip_owned")]


def test_certificates_are_told_for_as_long_as_they_are_there() -> None:
    metrics = Metrics(node=N1, version="0.1.0")
    for left in ({"node": 5.0, "api": -7.0}, {"node": 4.0}, {}):
        metrics.certificates = lambda left=left: left  # type: ignore[misc] # binds it
        found = samples(metrics.render(facts=FACTS, reports=REPORTS, raft=RAFT))
        told = {name: value for name, value in found.items() if "certificate" in name}
        assert told == {
            f"pgherd_certificate_expiry_seconds{{name={name}}}": seconds
            for name, seconds in left.items()
        }


def test_events_and_times_are_counted() -> None:
    metrics = Metrics(node=N1, version="0.1.0")
    metrics.failed_over(kind="switchover", result="done")
    metrics.promoted()
    metrics.loop_lagged(7)
    metrics.fsynced(0.0004)
    metrics.known = lambda: Known(dropped={"journal": 3})
    text = metrics.render(facts=FACTS, reports={}, raft=RAFT)
    found = samples(text)
    assert found["pgherd_failovers_total{kind=switchover,result=done}"] == 1
    assert found["pgherd_promotions_total"] == 1
    assert found["pgherd_loop_lag_seconds_count"] == 1
    assert found["pgherd_raft_fsync_seconds_sum"] == 0.0004
    assert found["pgherd_lines_dropped{writer=journal}"] == 3


def test_a_nodes_own_health_is_told_and_forgets_who_left() -> None:
    """Memory, peers by channel, probes; a peer that is gone has no series any more."""
    metrics = Metrics(node=N1, version="0.1.0")
    memory = Memory(8 << 30, 1 << 30, swap_size_bytes=2 << 30, swap_used_bytes=7, oom_kills=2)
    peers = (
        PeerSeen(N2, "raft", is_up=True, rtt_ms=1.5),
        PeerSeen(N3, "api", is_up=False, failures=4, problem="refused"),
    )
    vitals = Vitals(memory=memory, peers=peers, process_bytes={"agent": 50, "proxy": 30})
    metrics.known = lambda: Known(vitals=vitals, probes={"alive": 7, "hung": 1})
    found = samples(metrics.render(facts=FACTS, reports=REPORTS, raft=RAFT))
    expected = {
        "pgherd_memory_available_bytes": 1 << 30,
        "pgherd_memory_size_bytes": 8 << 30,
        "pgherd_swap_used_bytes": 7,
        "pgherd_oom_kills_total": 2,
        "pgherd_memory_bytes{process=agent}": 50,
        "pgherd_peer_up{channel=raft,peer=n2}": 1,
        "pgherd_peer_up{channel=api,peer=n3}": 0,
        "pgherd_peer_rtt_seconds{channel=raft,peer=n2}": 0.0015,
        "pgherd_health_probes_total{result=alive}": 7,
        "pgherd_health_probes_total{result=hung}": 1,
    }
    assert expected.items() <= found.items()
    assert "pgherd_peer_rtt_seconds{channel=api,peer=n3}" not in found
    metrics.known = lambda: Known(vitals=Vitals(memory=memory), probes={"alive": 9})
    later = samples(metrics.render(facts=FACTS, reports=REPORTS, raft=RAFT))
    assert not [name for name in later if name.startswith("pgherd_peer_")]
    assert later["pgherd_health_probes_total{result=alive}"] == 9
    assert later["pgherd_oom_kills_total"] == 2


def test_what_a_node_did_is_counted() -> None:
    metrics = Metrics(node=N1, version="0.1.0")
    metrics.node.step("Promote", "done")
    metrics.node.step("Promote", "failed")
    metrics.node.demoted()
    metrics.answered("/api/v1/nodes/{node_id}", "GET", 404, 0.02)
    metrics.durations.took(FAILOVER, 1.2)
    metrics.durations.took(RAFT_APPEND, 0.004)
    raft = msgspec.structs.replace(RAFT, suffrage={"voter": 2, "witness": 1})
    found = samples(metrics.render(facts=FACTS, reports=REPORTS, raft=raft))
    expected = {
        "pgherd_plan_steps_total{action=Promote,result=done}": 1,
        "pgherd_plan_steps_total{action=Promote,result=failed}": 1,
        "pgherd_demotions_total": 1,
        "pgherd_http_requests_total{code=404,method=GET,route=/api/v1/nodes/{node_id}}": 1,
        "pgherd_http_request_duration_seconds_count{route=/api/v1/nodes/{node_id}}": 1,
        "pgherd_failover_duration_seconds_bucket{le=1.0}": 0,
        "pgherd_failover_duration_seconds_bucket{le=2.0}": 1,
        "pgherd_raft_append_seconds_count": 1,
        "pgherd_raft_members{suffrage=voter}": 2,
        "pgherd_raft_members{suffrage=witness}": 1,
        "pgherd_raft_members{suffrage=learner}": 0,
    }
    assert expected.items() <= found.items()


def test_wal_is_counted_forward_only() -> None:
    """From the first look on; a rewound server has written nothing by that."""
    metrics = Metrics(node=N1, version="0.1.0")
    seen = []
    for end in (1000, 1500, 400, 900):
        position = Position(Term(4), Lsn(end))
        own = report(N1, msgspec.structs.replace(PRIMARY, position=position))
        found = samples(metrics.render(facts=FACTS, reports={N1: own}, raft=RAFT))
        seen.append(found["pgherd_postgres_wal_bytes_total"])
    assert seen == [0, 500, 500, 1000]


def test_waits_at_the_proxy_are_a_histogram_that_never_falls() -> None:
    """The proxy counts the classes; one that starts anew adds to what the last one counted."""
    assert HOLD_LIMITS_S == HOLD_BUCKETS_S
    metrics = Metrics(node=N1, version="0.1.0")
    seen = []
    for counts, held_s in (((2, 1), 0.5), ((2, 3), 1.5), ((1, 0), 0.25)):
        whole = (*counts, *([0] * (len(HOLD_BUCKETS_S) - 1)))
        proxy = ProxySeen(
            hold_counts=whole,
            hold_s=held_s,
            bytes_total={"from_clients": sum(counts)},
            queries_total={("primary", "simple"): sum(counts)},
        )
        found = samples(metrics.render(facts=FACTS, reports=REPORTS, raft=RAFT, proxy=proxy))
        limits = [f"{HOLD}_bucket{{le={limit}}}" for limit in ("0.005", "0.05", "+Inf")]
        seen.append((*(found[name] for name in limits), found[f"{HOLD}_sum"]))
        counted = found["pgherd_proxy_queries_total{kind=simple,route=primary}"]
        assert found["pgherd_proxy_bytes_total{direction=from_clients}"] == counted
    assert seen == [(2, 3, 3, 0.5), (2, 5, 5, 1.5), (3, 6, 6, 1.75)]
    assert counted == 6


def test_pools_are_summed_and_their_counters_never_fall() -> None:
    """Two pools, then none; and a proxy that begins anew adds to what the last one counted."""
    metrics = Metrics(node=N1, version="0.1.0")
    idle = Pool(PoolLimits(size=2), now=Instant(0))
    idle.want(1, Instant(0))
    idle.want(2, Instant(0))
    idle.want(3, Instant(0))
    idle.opened(1, 7, Instant(0))
    reports = [PoolReport("shop", user, "n1", 2, 0, idle.seen(Instant(5))) for user in "ab"]
    waits = (3, *([0] * len(HOLD_BUCKETS_S)))
    found: dict[str, float] = {}
    for done, pools in (
        ({"lent": 5, "carried": 3, "not_opened": 1}, tuple(reports)),
        ({"lent": 2, "carried": 1}, ()),
    ):
        seen = ProxySeen(pools=PoolCounters(pools, done, wait_counts=waits, waited_ms=2500))
        before = found
        found = samples(metrics.render(facts=FACTS, reports=REPORTS, raft=RAFT, proxy=seen))
    states = ("active", "idle", "opening", "resetting")
    assert [before[f"pgherd_pool_servers{{state={one}}}"] for one in states] == [2, 0, 2, 0]
    assert before["pgherd_pool_clients{state=waiting}"] == 4
    assert [found[f"pgherd_pool_servers{{state={one}}}"] for one in states] == [0, 0, 0, 0]
    assert (before["pgherd_pool_lent_total"], found["pgherd_pool_lent_total"]) == (5, 7)
    assert (before["pgherd_pool_carried_total"], found["pgherd_pool_carried_total"]) == (3, 4)
    assert found["pgherd_pool_servers_opened_total{result=failed}"] == 1
    assert found[f"{POOL_WAIT}_sum"] == 2.5
    assert found[f"{POOL_WAIT}_bucket{{le=0.005}}"] == 3


def test_the_page_names_every_metric_and_no_other() -> None:
    page = (Path(__file__).parents[3] / "docs" / "operate" / "metrics.md").read_text()
    told = set(re.findall(r"^\| (`pgherd_.*?) \|", page, flags=re.MULTILINE))
    named = {name for row in told for name in re.findall(r"`(pgherd_[a-z_]+)`", row)}
    ours = {*GAUGES, *COUNTERS, *NODE_GAUGES, *NODE_COUNTERS, *HISTOGRAMS, HOLD, POOL_WAIT}
    assert named == ours


def test_every_metric_has_help_and_a_name_in_our_form() -> None:
    metrics = Metrics(node=N1, version="0.1.0")
    text = metrics.render(facts=FACTS, reports=REPORTS, raft=RAFT).decode()
    for family in text_string_to_metric_families(text):
        assert re.fullmatch(r"pgherd_[a-z][a-z0-9_]*", family.name)
        assert family.documentation.endswith("."), family.name
