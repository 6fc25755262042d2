"""What the proxy counts about itself.

Owns totals since the start; what is open now is counted from the sessions when a report is made.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from enum import StrEnum
from pathlib import Path

from pgherd.relay.messages import ListenerSettings
from pgherd.route.choose import Bound, Route

HOLD_BUCKETS_S = (0.005, 0.05, 0.25, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper limits of the classes in which waits are counted; the last class has none."""

_PAGE_BYTES = 4096
_STATM = Path("/proc/self/statm")


class Result(StrEnum):
    """How a client's connection went.

    OPENED: reached a server · REFUSED: no server in time · REJECTED: over a limit · BARRED: its
    address may not come in · DENIED: its password, or the server itself, kept it out · CANCELLED:
    was a CancelRequest · VIOLATED: does not speak the protocol · SILENT: said nothing in time ·
    LEFT: went away before it reached a server.
    """

    OPENED = "opened"
    REFUSED = "refused"
    REJECTED = "rejected"
    BARRED = "barred"
    DENIED = "denied"
    CANCELLED = "cancelled"
    VIOLATED = "violated"
    SILENT = "silent"
    LEFT = "left"


class Routed(StrEnum):
    """What is counted of route: auto, for the primary and for replicas. READ, DOUBT, WRITE: cycles
    that went there, by what they are · FAILED: errors in answers · REPEATED: cycles that were said
    again elsewhere.
    """

    READ = "read"
    DOUBT = "doubt"
    WRITE = "write"
    FAILED = "failed"
    REPEATED = "repeated"


class Tally:
    """Totals. Mutable on purpose: one instance per process, one event loop."""

    __slots__ = (
        "cancels",
        "cut",
        "errors",
        "held",
        "held_s",
        "hold_counts",
        "lag_s",
        "moved",
        "queries",
        "results",
        "routed",
        "snapshots_refused",
    )

    def __init__(self) -> None:
        self.results: dict[str, Counter[str]] = {}
        self.errors: Counter[str] = Counter()
        self.held = 0
        self.held_s = 0.0
        self.hold_counts = [0] * (len(HOLD_BUCKETS_S) + 1)
        self.lag_s = 0.0
        self.cut = 0
        self.moved = 0
        self.cancels = 0
        self.snapshots_refused = 0
        self.queries: dict[str, Counter[str]] = {}
        self.routed: dict[str, Counter[str]] = {}

    def waited(self, seconds: float) -> None:
        """A client has waited for a server, or for a hold to end."""
        self.held_s += seconds
        self.hold_counts[bisect_left(HOLD_BUCKETS_S, seconds)] += 1

    def route(self, bound: Bound, what: Routed, count: int = 1) -> None:
        """Count something of route: auto."""
        route = Route.PRIMARY if bound.to_primary else Route.REPLICA
        self.routed.setdefault(str(route), Counter())[what] += count

    def routed_now(self) -> dict[str, dict[str, int]]:
        """Where cycles went, and what became of them."""
        return {route: dict(counts) for route, counts in self.routed.items()}

    def note(self, listener: ListenerSettings, result: Result) -> None:
        """One more connection that went this way."""
        self.results.setdefault(listener.label, Counter())[result] += 1


def rss_bytes() -> int:
    """Resident memory of this process; 0 where it cannot be read."""
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0
