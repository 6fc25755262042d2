"""Metrics in Prometheus' text form, from what the agent knows at the moment of the question.

Owns the names, their help and a registry of its own. Gauges are set from facts and reports when
they are asked for; counters and histograms are told by the rooms. Leaves serving them to `api`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import msgspec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest

from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import NodeId
from pgherd.model.observation import Observation, Server
from pgherd.route.poolreport import PoolCounters
from pgherd.telemetry import durations
from pgherd.telemetry.durations import Durations
from pgherd.telemetry.nodemetrics import NODE_COUNTERS, NODE_GAUGES, Known, NodeMetrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
RAFT_STATES = ("follower", "candidate", "leader", "learner")
ROLES = ("primary", "replica", "none")
HOLD_LIMITS_S = (0.005, 0.05, 0.25, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The classes in which the proxy counts waits (`relay.tally`)."""


class RaftSeen(msgspec.Struct, frozen=True):
    """Consensus as this node sees it. spare_voters: how many more voters may fall silent ·
    suffrage: how many members are what in it."""

    term: int
    state: str
    commit_index: int
    applied_index: int
    has_quorum: bool
    voters: int = 0
    spare_voters: int = 0
    suffrage: Mapping[str, int] = {}


class ProxySeen(msgspec.Struct, frozen=True):
    """The proxy's counts: open connections by (listener, backend), ended ones by result, errors by
    reason, clients that wait, sessions that went on at another server; who carries bytes; bytes by
    direction, queries and routed ones by (route, kind), waits that ended by class and their time
    together, and what its pools do."""

    connections: Mapping[tuple[str, str], int] = {}
    connections_total: Mapping[tuple[str, str], int] = {}
    errors_total: Mapping[str, int] = {}
    engine: str = ""
    held: int = 0
    moved_total: int = 0
    bytes_total: Mapping[str, int] = {}
    queries_total: Mapping[tuple[str, str], int] = {}
    routed_total: Mapping[tuple[str, str], int] = {}
    hold_counts: tuple[int, ...] = ()
    hold_s: float = 0.0
    pools: PoolCounters | None = None


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
        for name, (text, labels) in (GAUGES | NODE_GAUGES).items():
            self._gauges[name] = Gauge(name, text, labels, registry=self._registry)
        for name, (text, labels) in (COUNTERS | NODE_COUNTERS).items():
            self._counted[name] = Counter(name, text, labels, registry=self._totals)
        self.durations = Durations(self._registry, hold_limits_s=HOLD_LIMITS_S)
        self.node = NodeMetrics(self._gauges, self._counted, self._grow)
        self.known: Callable[[], Known] = Known
        """What only this process knows, asked for when metrics are."""
        self._gauges["pgherd_build_info"].labels(version=version).set(1)
        self.certificates: Callable[[], Mapping[str, float]] = dict
        """For each certificate of this node, the seconds until it ends."""

    def loop_lagged(self, ms: int) -> None:
        """The loop woke late by this much (pass it to `LoopLag`)."""
        self.durations.took(durations.LOOP_LAG, ms / 1000)

    def fsynced(self, seconds: float) -> None:
        """One durable append took this long."""
        self.durations.took(durations.RAFT_FSYNC, seconds)

    def answered(self, route: str, method: str, code: int, seconds: float) -> None:
        """The API answered a request (pass it to `build_app`)."""
        self.node.answered(route, method, code)
        self.durations.took(durations.HTTP_REQUEST, seconds, route=route)

    def failed_over(self, *, kind: str, result: str) -> None:
        """A change of primary ended. kind: failover, switchover; result: done, abandoned."""
        self._counted["pgherd_failovers_total"].labels(kind=kind, result=result).inc()

    def checked(self, counts: Mapping[str, int]) -> None:
        """A check-up of this node ended; how many checks ended how."""
        for status, count in counts.items():
            self._gauges["pgherd_doctor_checks"].labels(status=status).set(count)

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

    def hook_ran(self, hook: str, result: str) -> None:
        """A hook's program: done, failed, vetoed, superseded."""
        self._counted["pgherd_hook_runs_total"].labels(hook=hook, result=result).inc()

    def webhook_sent(self, webhook: str, result: str, count: int = 1) -> None:
        """Events for a receiver: delivered, failed (tried again), refused, lost."""
        self._counted["pgherd_webhook_events_total"].labels(webhook=webhook, result=result).inc(
            count
        )

    def render(
        self,
        *,
        facts: Facts,
        reports: Mapping[NodeId, Observation],
        raft: RaftSeen,
        proxy: ProxySeen | None = None,
        split_brain: bool = False,
        replicas: Mapping[NodeId, ReplicaSeen] | None = None,
    ) -> bytes:
        """All metrics as text. reports: the fresh ones only."""
        self._set_cluster(facts, reports, raft)
        self._gauges["pgherd_split_brain"].set(split_brain)
        self._set_postgres(reports.get(self._node))
        self._set_vips(reports.get(self._node))
        self._set_certificates()
        self._set_replicas(replicas or {})
        self._set_slots(reports.get(self._node))
        self._set_archive(reports.get(self._node))
        self._set_raft(raft)
        self._set_proxy(proxy or ProxySeen())
        self.node.follow(self.known())
        self.node.follow_wal(reports.get(self._node))
        self.node.set_members(raft.suffrage)
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

    def _set_certificates(self) -> None:
        left = self._gauges["pgherd_certificate_expiry_seconds"]
        left.clear()
        for name, seconds in self.certificates().items():
            left.labels(name=name).set(seconds)

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
        end = server.wal_end
        for slot in server.replication_slots:
            if not slot.temporary:
                held.labels(slot=slot.name).set(slot.kept_bytes(end))
                empty.labels(slot=slot.name).set(slot.lost or not (slot.lsn or slot.active))

    def _set_archive(self, own: Observation | None) -> None:
        """Only where there is an archive."""
        if own is None or not own.archive.place:
            return
        seen = own.archive
        self._gauges["pgherd_archive_last_success_timestamp_seconds"].set(seen.last_unix_ms / 1000)
        self._gauges["pgherd_archive_waiting_files"].set(seen.waiting)
        self._gauges["pgherd_archive_failing"].set(bool(seen.failing))
        self._grow("pgherd_archive_failures_total", seen.failures)
        self._grow("pgherd_archive_given_up_total", seen.given_up)

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
        for direction, count in proxy.bytes_total.items():
            self._grow("pgherd_proxy_bytes_total", count, direction=direction)
        for (route, kind), count in proxy.queries_total.items():
            self._grow("pgherd_proxy_queries_total", count, route=route, kind=kind)
        for (route, kind), count in proxy.routed_total.items():
            self._grow("pgherd_proxy_routed_total", count, route=route, kind=kind)
        self.durations.hold.follow(proxy.hold_counts, proxy.hold_s)
        pools = proxy.pools or PoolCounters()
        self.node.set_pools(pools)
        self.durations.pool.follow(pools.wait_counts, pools.waited_ms / 1000)

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
    "pgherd_archive_last_success_timestamp_seconds": (
        "When this node last archived a file of WAL; 0: not since its daemon started.",
        (),
    ),
    "pgherd_archive_waiting_files": ("Files of WAL here that wait to be archived.", ()),
    "pgherd_archive_failing": ("Whether the newest attempt to archive a file failed.", ()),
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
    "pgherd_certificate_expiry_seconds": ("Until a certificate of this node ends.", ("name",)),
    "pgherd_lines_dropped": ("Journal and log lines lost to a slow disk.", ("writer",)),
}
"""name -> help, labels."""

COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pgherd_failovers_total": ("Changes of primary that ended.", ("kind", "result")),
    "pgherd_promotions_total": ("Promotions of this node's PostgreSQL.", ()),
    "pgherd_split_brains_total": ("How often a node began to contradict the ledger.", ()),
    "pgherd_archive_failures_total": ("Files of WAL that could not be archived, by attempts.", ()),
    "pgherd_archive_given_up_total": ("Files of WAL given up, so that the archive has a gap.", ()),
    "pgherd_slots_given_up_total": ("Slots given up while the disk was nearly full.", ()),
    "pgherd_vip_transitions_total": ("How often this node took or left an address.", ()),
    "pgherd_hook_runs_total": ("Runs of operators' programs.", ("hook", "result")),
    "pgherd_webhook_events_total": ("Events for receivers of webhooks.", ("webhook", "result")),
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
