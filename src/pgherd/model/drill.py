"""A drill: a change of primary that is made to measure it, and what was measured.

Owns the shape of the record, and when a drill was worse than those before it. How records change is
`ledger.drills`'s; who measures, `daemon.drilling`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from pgherd.model.ids import NodeId, Term

COMPARED_LEAST = 2
COMPARED_MOST = 10
"""One drill is no measure for another; of more the newest tell most."""

WORSE_FACTOR = 2.0
WORSE_MS = 250
"""Worse is both: so many times the median of those before, and so much more than it."""


class DrillKind(StrEnum):
    """What is done: a planned switchover, or the primary's postmaster killed."""

    SWITCHOVER = "switchover"
    KILL = "kill"


class DrillState(StrEnum):
    """Where it stands; the last two are ends."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Measured(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the probe writes found. outage_ms: the longest time between two acknowledged ones from
    the stroke on · failed: attempts that were told of an error or of nothing · missing: rows that
    were acknowledged and are not there.
    """

    outage_ms: int
    acknowledged: int
    failed: int = 0
    missing: int = 0


class Drill(msgspec.Struct, frozen=True, omit_defaults=True):
    """One drill. node: who measures · primary: of before, with its term · via: where the probe
    writes go, `proxy` or `servers` · regression: how it is worse than those before, "" if not.
    """

    id: str
    kind: DrillKind
    requested_by: str
    node: NodeId
    primary: NodeId
    term: Term
    via: str
    began_at_ms: int
    state: DrillState = DrillState.RUNNING
    text: str = ""
    ended_at_ms: int = 0
    new_primary: NodeId | None = None
    measured: Measured | None = None
    regression: str = ""

    @property
    def what(self) -> str:
        """For people."""
        if self.kind is DrillKind.KILL:
            return f"drill: kill of {self.primary}"
        return f"drill: switchover from {self.primary}"


def regression(drill: Drill, before: Sequence[Drill]) -> str:
    """How a drill is worse than those of its kind and way that were done before; "" if it is not.

    In whole milliseconds, so that every node comes to the same words.
    """
    if drill.measured is None:
        return ""
    found = sorted(
        one.measured.outage_ms
        for one in [
            one
            for one in before
            if one.measured is not None
            and one.state is DrillState.DONE
            and (one.kind, one.via) == (drill.kind, drill.via)
        ][-COMPARED_MOST:]
        if one.measured is not None
    )
    if len(found) < COMPARED_LEAST:
        return ""
    median = found[len(found) // 2]
    took = drill.measured.outage_ms
    if took <= median * WORSE_FACTOR or took <= median + WORSE_MS:
        return ""
    return f"writes stood still for {took} ms, the median of the {len(found)} before is {median} ms"
