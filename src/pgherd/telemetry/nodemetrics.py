"""Metrics of what a node is and does itself: memory, peers, probes, steps, requests, bytes.

Owns their names and help. Leaves the registries to `metrics`, which renders all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from prometheus_client import Counter, Gauge

from pgherd.model.observation import Observation
from pgherd.model.vitals import Vitals
from pgherd.route.poolreport import PoolCounters

NODE_GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "pgherd_peer_up": ("Whether a node is reached from here by a channel.", ("peer", "channel")),
    "pgherd_peer_rtt_seconds": ("Round trip, or time to connect.", ("peer", "channel")),
    "pgherd_memory_available_bytes": ("Memory that this node could still use.", ()),
    "pgherd_memory_size_bytes": ("Memory of this node, or of its control group.", ()),
    "pgherd_swap_used_bytes": ("Swap in use on this machine.", ()),
    "pgherd_memory_bytes": ("Resident memory of pgherd's own processes.", ("process",)),
    "pgherd_pool_servers": ("Server connections of pools.", ("state",)),
    "pgherd_pool_clients": ("Clients of pools that have a server or wait for one.", ("state",)),
    "pgherd_raft_members": ("Members by what they are in consensus.", ("suffrage",)),
    "pgherd_doctor_checks": ("Checks of this node at its last check-up, by result.", ("status",)),
}
"""name -> help, labels."""

NODE_COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pgherd_oom_kills_total": ("Processes that the kernel killed for want of memory.", ()),
    "pgherd_health_probes_total": ("Fresh connections to this node's PostgreSQL.", ("result",)),
    "pgherd_plan_steps_total": ("Acts of this node that ended.", ("action", "result")),
    "pgherd_demotions_total": ("Elections that this node, the primary, did not win.", ()),
    "pgherd_postgres_wal_bytes_total": ("WAL that this node's server wrote or replayed.", ()),
    "pgherd_http_requests_total": ("Answers of the API.", ("route", "method", "code")),
    "pgherd_proxy_bytes_total": ("Bytes that the proxy carried.", ("direction",)),
    "pgherd_pool_lent_total": ("How often a server connection was lent.", ()),
    "pgherd_pool_carried_total": ("Of these, those that the shuttle did.", ()),
    "pgherd_pool_refused_total": ("Clients that got none, by queue or query_wait_timeout.", ()),
    "pgherd_pool_servers_opened_total": ("Server connections by how opening went.", ("result",)),
    "pgherd_pool_servers_closed_total": ("Server connections of pools that ended.", ()),
    "pgherd_proxy_queries_total": ("Queries that sessions were answered.", ("route", "kind")),
    "pgherd_proxy_routed_total": (
        "With route: auto, queries by where they went and what they are (read, doubt, write),"
        " errors in their answers (failed), and those said again elsewhere (repeated).",
        ("route", "kind"),
    ),
}
"""name -> help, labels."""

SUFFRAGES = ("voter", "learner", "witness", "non-voter")


_POOL_TOTALS = {
    "lent": "lent",
    "carried": "carried",
    "refused": "refused",
    "servers_closed": "closed",
}
"""Metric, and what the proxy calls it."""


class Known(msgspec.Struct, frozen=True):
    """What only this process knows. probes: by result · dropped: lines lost, by writer."""

    vitals: Vitals = Vitals()
    probes: Mapping[str, int] = {}
    dropped: Mapping[str, int] = {}


Grow = Callable[..., None]


class NodeMetrics:
    """Sets them. grow: brings a counter to what somebody else counted."""

    def __init__(
        self, gauges: Mapping[str, Gauge], counters: Mapping[str, Counter], grow: Grow
    ) -> None:
        self._gauges, self._counters, self._grow = gauges, counters, grow
        self._wal_end: int | None = None

    def step(self, action: str, result: str) -> None:
        """An act ended."""
        self._counters["pgherd_plan_steps_total"].labels(action=action, result=result).inc()

    def demoted(self) -> None:
        """Another one was elected in this node's place."""
        self._counters["pgherd_demotions_total"].inc()

    def answered(self, route: str, method: str, code: int) -> None:
        """The API answered a request."""
        found = self._counters["pgherd_http_requests_total"]
        found.labels(route=route, method=method, code=str(code)).inc()

    def follow(self, known: Known) -> None:
        """As it is now."""
        self._set_memory(known.vitals)
        up, rtt = self._gauges["pgherd_peer_up"], self._gauges["pgherd_peer_rtt_seconds"]
        up.clear()
        rtt.clear()
        for peer in known.vitals.peers:
            up.labels(peer=peer.node, channel=peer.channel).set(peer.is_up)
            if peer.rtt_ms >= 0:
                rtt.labels(peer=peer.node, channel=peer.channel).set(peer.rtt_ms / 1000)
        for result, count in known.probes.items():
            self._grow("pgherd_health_probes_total", count, result=result)
        for writer, lines in known.dropped.items():
            self._gauges["pgherd_lines_dropped"].labels(writer=writer).set(lines)

    def _set_memory(self, vitals: Vitals) -> None:
        memory = vitals.memory
        if memory is not None:
            self._gauges["pgherd_memory_available_bytes"].set(memory.available_bytes)
            self._gauges["pgherd_memory_size_bytes"].set(memory.size_bytes)
            self._gauges["pgherd_swap_used_bytes"].set(memory.swap_used_bytes)
            self._grow("pgherd_oom_kills_total", memory.oom_kills)
        for process, size in vitals.process_bytes.items():
            self._gauges["pgherd_memory_bytes"].labels(process=process).set(size)

    def follow_wal(self, own: Observation | None) -> None:
        """How far the server's WAL is; a rewound server goes on from where it is then."""
        server = own.server if own is not None else None
        if server is None or server.position is None:
            return
        end = max(server.insert_lsn, server.position.lsn)
        if self._wal_end is not None and end > self._wal_end:
            self._counters["pgherd_postgres_wal_bytes_total"].inc(end - self._wal_end)
        self._wal_end = end

    def set_pools(self, pools: PoolCounters) -> None:
        """What the proxy's pools hold and did."""
        servers, clients = (self._gauges[f"pgherd_pool_{of}"] for of in ("servers", "clients"))
        for state in ("active", "idle", "opening", "resetting"):
            count = sum(getattr(pool.seen, f"servers_{state}") for pool in pools.pools)
            servers.labels(state=state).set(count)
        for state in ("active", "waiting"):
            count = sum(getattr(pool.seen, f"clients_{state}") for pool in pools.pools)
            clients.labels(state=state).set(count)
        for name, what in _POOL_TOTALS.items():
            self._grow(f"pgherd_pool_{name}_total", pools.done.get(what, 0))
        for result, what in (("opened", "opened"), ("failed", "not_opened")):
            count = pools.done.get(what, 0)
            self._grow("pgherd_pool_servers_opened_total", count, result=result)

    def set_members(self, suffrage: Mapping[str, int]) -> None:
        """Who is what in consensus."""
        for name in SUFFRAGES:
            self._gauges["pgherd_raft_members"].labels(suffrage=name).set(suffrage.get(name, 0))
