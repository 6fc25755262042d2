"""Histograms: how long things took, told by the rooms in which they happen.

Owns their names, help and classes. `Waits` is one whose classes somebody else has counted (the
proxy, in its own process).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

LAG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
FSYNC = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)
COMMIT = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
CHANGE = (0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)
ANSWER = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)

LOOP_LAG = "pgherd_loop_lag_seconds"
RAFT_FSYNC = "pgherd_raft_fsync_seconds"
RAFT_APPEND = "pgherd_raft_append_seconds"
RAFT_SNAPSHOT = "pgherd_raft_snapshot_seconds"
FAILOVER = "pgherd_failover_duration_seconds"
SWITCHOVER = "pgherd_switchover_duration_seconds"
HTTP_REQUEST = "pgherd_http_request_duration_seconds"
HOLD = "pgherd_proxy_hold_seconds"
POOL_WAIT = "pgherd_pool_wait_seconds"

HISTOGRAMS: dict[str, tuple[str, tuple[str, ...], tuple[float, ...]]] = {
    LOOP_LAG: ("By how much the agent's loop woke late.", (), LAG),
    RAFT_FSYNC: ("Time of one durable append to the consensus store.", (), FSYNC),
    RAFT_APPEND: ("From a command's proposal on the Raft leader until it is applied.", (), COMMIT),
    RAFT_SNAPSHOT: ("Time to write the ledger down whole and cut the log.", (), FSYNC),
    FAILOVER: ("From the begin of a term for a lost primary until it is open.", (), CHANGE),
    SWITCHOVER: ("The same for a planned change of primary.", (), CHANGE),
    HTTP_REQUEST: ("Time of one answer of the API.", ("route",), ANSWER),
}  # fmt: skip
"""name -> help, labels, upper limits of the classes."""

HOLD_HELP = "How long clients waited for a server, or for a hold to end."

POOL_WAIT_HELP = "How long clients waited for a server connection of a pool."


class Durations:
    """All of them."""

    def __init__(self, registry: CollectorRegistry, *, hold_limits_s: Sequence[float]) -> None:
        self._all = {
            name: Histogram(name, text, labels, buckets=limits, registry=registry)
            for name, (text, labels, limits) in HISTOGRAMS.items()
        }
        self.hold = Waits(HOLD, HOLD_HELP, limits_s=hold_limits_s)
        registry.register(self.hold)
        self.pool = Waits(POOL_WAIT, POOL_WAIT_HELP, limits_s=hold_limits_s)
        registry.register(self.pool)

    def took(self, name: str, seconds: float, **labels: str) -> None:
        """One more."""
        found = self._all[name]
        (found.labels(**labels) if labels else found).observe(seconds)


class Waits(Collector):
    """A histogram of somebody else's counts, which never falls though they may begin anew."""

    def __init__(self, name: str, text: str, *, limits_s: Sequence[float]) -> None:
        self._name, self._text = name, text
        self._limits = [*(f"{limit:g}" for limit in limits_s), "+Inf"]
        self._counts = [0] * len(self._limits)
        self._before = [0] * len(self._limits)
        self._sum_s = self._sum_before_s = 0.0

    def follow(self, counts: Sequence[int], sum_s: float) -> None:
        """What they are now; less than before is another process's."""
        if len(counts) != len(self._counts):
            return
        anew = sum(counts) < sum(self._before)
        before = [0] * len(counts) if anew else self._before
        sum_before_s = 0.0 if anew else self._sum_before_s
        self._counts = [
            total + new - old for total, new, old in zip(self._counts, counts, before, strict=True)
        ]
        self._sum_s += max(0.0, sum_s - sum_before_s)
        self._before, self._sum_before_s = list(counts), sum_s

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """For the client library: each class holds those below it as well."""
        total, buckets = 0, []
        for limit, count in zip(self._limits, self._counts, strict=True):
            total += count
            buckets.append((limit, total))
        yield HistogramMetricFamily(self._name, self._text, buckets=buckets, sum_value=self._sum_s)
