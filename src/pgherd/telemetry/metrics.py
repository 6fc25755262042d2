"""Metrics in Prometheus' text form, from what the agent knows at the moment of the question.

Owns the names, their help and a registry of its own. Gauges are set from facts and reports when
they are asked for; counters and histograms are told by the rooms. Leaves serving them to `api`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest

from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import NodeId
from pgherd.model.observation import Observation, Server

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
RAFT_STATES = ("follower", "candidate", "leader", "learner")
ROLES = ("primary", "replica", "none")
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
FSYNC_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)


class RaftSeen(msgspec.Struct, frozen=True):
    """Consensus as this node sees it. spare_voters: how many more voters may fall silent."""

    term: int
    state: str
    commit_index: int
    applied_index: int
    has_quorum: bool
    voters: int = 0
    spare_voters: int = 0


class ProxySeen(msgspec.Struct, frozen=True):
    """The proxy's counts: open connections by (listener, backend), ended ones by result, errors by
    reason, clients that wait, sessions that went on at another server; and who carries bytes."""

    connections: Mapping[tuple[str, str], int] = {}
    connections_total: Mapping[tuple[str, str], int] = {}
    errors_total: Mapping[str, int] = {}
    engine: str = ""
    held: int = 0
    moved_total: int = 0


class ReplicaSeen(msgspec.Struct, frozen=True):
    """One replica, heard or not, as its distance from the primary is known."""

    state: str
    lag_bytes: int | None = None
    lag_ms: int | None = None


class Metrics:
    """The metrics of one agent process.

    Counters have a registry to themselves: the client library takes `x` and `x_total` for one
    name, Prometheus does not.
    """

    def __init__(self, *, node: NodeId, version: str) -> None:
        self._node = node
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library has no types here
        self._registry = CollectorRegistry(auto_describe=False)
        self._totals = CollectorRegistry(auto_describe=False)
        self._gauges: dict[str, Gauge] = {}
        self._counted: dict[str, Counter] = {}
        self._proxy_before: dict[tuple[str, ...], int] = {}
        for name, (text, labels) in GAUGES.items():
            self._gauges[name] = Gauge(name, text, labels, registry=self._registry)
        for name, (text, labels) in COUNTERS.items():
            self._counted[name] = Counter(name, text, labels, registry=self._totals)
        self._loop_lag = Histogram(
            "pgherd_loop_lag_seconds",
            "By how much the agent's loop woke late.",
            buckets=LAG_BUCKETS,
            registry=self._registry,
        )
        self._fsync = Histogram(
            "pgherd_raft_fsync_seconds",
            "Time of one durable append to the consensus store.",
            buckets=FSYNC_BUCKETS,
            registry=self._registry,
        )
        self._gauges["pgherd_build_info"].labels(version=version).set(1)

    def loop_lagged(self, ms: int) -> None:
        """The loop woke late by this much (pass it to `LoopLag`)."""
        self._loop_lag.observe(ms / 1000)

    def fsynced(self, seconds: float) -> None:
        """One durable append took this long."""
        self._fsync.observe(seconds)

    def failed_over(self, *, kind: str, result: str) -> None:
        """A change of primary ended. kind: failover, switchover; result: done, abandoned."""
        self._counted["pgherd_failovers_total"].labels(kind=kind, result=result).inc()

    def saw_split_brain(self) -> None:
        """A node began to contradict the ledger."""
        self._counted["pgherd_split_brains_total"].inc()

    def gave_slot_up(self) -> None:
        """This node let go of the WAL that a slot held back, for want of room."""
        self._counted["pgherd_slots_given_up_total"].inc()

    def vip_moved(self) -> None:
        """This node took or left an address that moves."""
        self._counted["pgherd_vip_transitions_total"].inc()

    def promoted(self) -> None:
        """This node's PostgreSQL was promoted."""
        self._counted["pgherd_promotions_total"].inc()

    def render(
        self,
        *,
        facts: Facts,
        reports: Mapping[NodeId, Observation],
        raft: RaftSeen,
        proxy: ProxySeen | None = None,
        dropped: Mapping[str, int] | None = None,
        split_brain: bool = False,
        replicas: Mapping[NodeId, ReplicaSeen] | None = None,
    ) -> bytes:
        """All metrics as text. reports: the fresh ones only; dropped: lines lost, by writer."""
        self._set_cluster(facts, reports, raft)
        self._gauges["pgherd_split_brain"].set(split_brain)
        self._set_postgres(reports.get(self._node))
        self._set_vips(reports.get(self._node))
        self._set_replicas(replicas or {})
        self._set_slots(reports.get(self._node))
        self._set_raft(raft)
        self._set_proxy(proxy or ProxySeen())
        for writer, lines in (dropped or {}).items():
            self._gauges["pgherd_lines_dropped"].labels(writer=writer).set(lines)
        return generate_latest(self._registry) + generate_latest(self._totals)

    def _set_cluster(
        self, facts: Facts, reports: Mapping[NodeId, Observation], raft: RaftSeen
    ) -> None:
        healthy = sum(1 for node in facts.members if node in reports and is_well(reports[node]))
        self._gauges["pgherd_cluster_nodes"].set(len(facts.members))
        self._gauges["pgherd_cluster_nodes_healthy"].set(healthy)
        self._gauges["pgherd_cluster_has_quorum"].set(raft.has_quorum)
        self._gauges["pgherd_cluster_epoch"].set(facts.term)
        self._gauges["pgherd_cluster_paused"].set(facts.paused)
        primary = self._gauges["pgherd_cluster_primary"]
        primary.clear()
        if facts.leader is not None and facts.phase is Phase.STABLE:
            primary.labels(node=facts.leader.node).set(1)

    def _set_postgres(self, own: Observation | None) -> None:
        server = own.server if own is not None else None
        up = server is not None and server.state in (Server.PRIMARY, Server.STANDBY)
        role = _role(server.state if server is not None else Server.NONE)
        self._gauges["pgherd_postgres_up"].set(up)
        for name in ROLES:
            self._gauges["pgherd_postgres_role"].labels(role=name).set(name == role)
        self._gauges["pgherd_postgres_timeline"].set(server.timeline if server is not None else 0)
        lease = self._gauges["pgherd_lease_seconds_left"]
        lease.clear()
        if own is not None and own.lease_left_ms is not None:
            lease.labels(node=own.node).set(own.lease_left_ms / 1000)
        self._set_disks(own)

    def _set_disks(self, own: Observation | None) -> None:
        free = self._gauges["pgherd_disk_free_bytes"]
        full = self._gauges["pgherd_disk_full_in_seconds"]
        free.clear()
        full.clear()
        for disk in own.disks if own is not None else ():
            free.labels(mount=disk.mount).set(disk.free_bytes)
            full.labels(mount=disk.mount).set(
                disk.full_in_ms / 1000 if disk.full_in_ms >= 0 else math.inf
            )

    def _set_vips(self, own: Observation | None) -> None:
        owned = self._gauges["pgherd_vip_owned"]
        owned.clear()
        for vip in own.vips if own is not None else ():
            owned.labels(address=vip.address).set(vip.owned)

    def _set_replicas(self, replicas: Mapping[NodeId, ReplicaSeen]) -> None:
        names = ("replication_lag_bytes", "replication_lag_seconds", "replica_state")
        lag, late, state = (self._gauges[f"pgherd_{name}"] for name in names)
        for gauge in (lag, late, state):
            gauge.clear()
        for node, replica in replicas.items():
            state.labels(node=node, state=replica.state).set(1)
            if replica.lag_bytes is not None:
                lag.labels(node=node).set(replica.lag_bytes)
            if replica.lag_ms is not None:
                late.labels(node=node).set(replica.lag_ms / 1000)

    def _set_slots(self, own: Observation | None) -> None:
        held = self._gauges["pgherd_slot_retained_bytes"]
        empty = self._gauges["pgherd_slot_keeps_nothing"]
        held.clear()
        empty.clear()
        server = own.server if own is not None else None
        if server is None or server.position is None:
            return
        end = max(server.insert_lsn, server.position.lsn)
        for slot in server.replication_slots:
            if not slot.temporary:
                held.labels(slot=slot.name).set(slot.kept_bytes(end))
                empty.labels(slot=slot.name).set(slot.lost or not (slot.lsn or slot.active))

    def _set_raft(self, raft: RaftSeen) -> None:
        self._gauges["pgherd_raft_term"].set(raft.term)
        self._gauges["pgherd_raft_commit_index"].set(raft.commit_index)
        self._gauges["pgherd_raft_applied_index"].set(raft.applied_index)
        self._gauges["pgherd_raft_voters"].set(raft.voters)
        self._gauges["pgherd_raft_voters_spare"].set(raft.spare_voters)
        for name in RAFT_STATES:
            self._gauges["pgherd_raft_state"].labels(state=name).set(name == raft.state)

    def _set_proxy(self, proxy: ProxySeen) -> None:
        open_now = self._gauges["pgherd_proxy_connections"]
        open_now.clear()
        for (listener, backend), count in proxy.connections.items():
            open_now.labels(listener=listener, backend=backend).set(count)
        engine = self._gauges["pgherd_proxy_engine"]
        engine.clear()
        if proxy.engine:
            engine.labels(engine=proxy.engine).set(1)
        for (listener, result), count in proxy.connections_total.items():
            self._grow("pgherd_proxy_connections_total", count, listener=listener, result=result)
        self._gauges["pgherd_proxy_held_clients"].set(proxy.held)
        self._grow("pgherd_proxy_moved_sessions_total", proxy.moved_total)
        for reason, count in proxy.errors_total.items():
            self._grow("pgherd_proxy_routing_errors_total", count, reason=reason)

    def _grow(self, name: str, count: int, **labels: str) -> None:
        """Bring a counter to what the proxy counted; one that counts less was started anew."""
        key = (name, *labels.values())
        before = self._proxy_before.get(key, 0)
        counter = self._counted[name]
        more = count - before if count >= before else count
        (counter.labels(**labels) if labels else counter).inc(more)
        self._proxy_before[key] = count


GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "pgherd_build_info": ("Version of this daemon.", ("version",)),
    "pgherd_cluster_nodes": ("Members in the ledger.", ()),
    "pgherd_cluster_nodes_healthy": ("Members whose fresh report says that they are well.", ()),
    "pgherd_cluster_has_quorum": ("Whether consensus can commit, as seen from here.", ()),
    "pgherd_cluster_primary": ("1 for the primary of a stable term.", ("node",)),
    "pgherd_cluster_epoch": ("The ledger's term.", ()),
    "pgherd_cluster_paused": ("Whether automatic changes are paused.", ()),
    "pgherd_split_brain": ("Whether a node contradicts the ledger, as seen from here.", ()),
    "pgherd_postgres_up": ("Whether this node's PostgreSQL takes connections.", ()),
    "pgherd_postgres_role": ("1 for this node's role.", ("role",)),
    "pgherd_postgres_timeline": ("Timeline of this node's PostgreSQL.", ()),
    "pgherd_lease_seconds_left": ("What is left of the lease that this node holds.", ("node",)),
    "pgherd_disk_free_bytes": ("Room where data (and WAL) lie, and where WAL lies.", ("mount",)),
    "pgherd_disk_full_in_seconds": (
        "When that is gone at the speed of the last minutes; +Inf: it is not.",
        ("mount",),
    ),
    "pgherd_slot_retained_bytes": ("WAL that is here because of a slot.", ("slot",)),
    "pgherd_slot_keeps_nothing": ("Whether a slot is lost, or was given up.", ("slot",)),
    "pgherd_replication_lag_bytes": ("Primary's WAL that a replica has not replayed.", ("node",)),
    "pgherd_replication_lag_seconds": ("For how long the primary has had it.", ("node",)),
    "pgherd_replica_state": ("1 for the state of each replica.", ("node", "state")),
    "pgherd_raft_term": ("The consensus core's own term counter.", ()),
    "pgherd_raft_state": ("1 for this node's state in consensus.", ("state",)),
    "pgherd_raft_commit_index": ("Last committed entry known here.", ()),
    "pgherd_raft_applied_index": ("Last entry applied here.", ()),
    "pgherd_raft_voters": ("Members that vote.", ()),
    "pgherd_raft_voters_spare": ("Answering voters beyond a majority; negative: too few.", ()),
    "pgherd_proxy_connections": ("Open client connections.", ("listener", "backend")),
    "pgherd_proxy_engine": ("1 for who carries the bytes of new sessions.", ("engine",)),
    "pgherd_proxy_held_clients": ("Clients that wait for a server, or for a hold to end.", ()),
    "pgherd_vip_owned": ("Whether this node has an address that moves.", ("address",)),
    "pgherd_lines_dropped": ("Journal and log lines lost to a slow disk.", ("writer",)),
}
"""name -> help, labels."""

COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pgherd_failovers_total": ("Changes of primary that ended.", ("kind", "result")),
    "pgherd_promotions_total": ("Promotions of this node's PostgreSQL.", ()),
    "pgherd_split_brains_total": ("How often a node began to contradict the ledger.", ()),
    "pgherd_slots_given_up_total": ("Slots given up while the disk was nearly full.", ()),
    "pgherd_vip_transitions_total": ("How often this node took or left an address.", ()),
    "pgherd_proxy_connections_total": ("Client connections that ended.", ("listener", "result")),
    "pgherd_proxy_moved_sessions_total": ("Sessions that went on at another server.", ()),
    "pgherd_proxy_routing_errors_total": ("What went wrong in the proxy.", ("reason",)),
}
"""name -> help, labels."""


def is_well(report: Observation) -> bool:
    """Whether a report tells of a working node."""
    if report.witness:
        return True
    return report.server.healthy and report.server.state in (Server.PRIMARY, Server.STANDBY)


def _role(state: Server) -> str:
    return {Server.PRIMARY: "primary", Server.STANDBY: "replica"}.get(state, "none")
