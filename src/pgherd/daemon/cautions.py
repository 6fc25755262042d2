"""What people should know of this node though it works: clock, stalls, and whatever else warns.

Owns the sentences about clock and stalls, and for how long each is repeated; and the list of who
else has some. What a stall or a step costs the lease is `plan.leaseclock`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pgherd.daemon import slotting
from pgherd.model.facts import Facts, Mode
from pgherd.model.ids import Instant
from pgherd.model.lease import margin_ms

if TYPE_CHECKING:
    from pgherd.daemon.agent import Agent

SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
HYPERVISORS = ("kvm-clock", "xen", "hyperv")
"""Clocks that a hypervisor keeps: it may hide that it froze the machine, or put it back in time."""

SAID_FOR_MS = 600_000


class Cautions:
    """One node's. source: the name of its clock source, "" where the system tells none."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._stall: tuple[Instant, int] | None = None

    def stalled(self, now: Instant, *, late_ms: int, ttl_ms: int) -> None:
        """The loop came round late by so much; only more than a holder is allowed is said."""
        if late_ms > margin_ms(ttl_ms):
            self._stall = now, late_ms

    def warnings(self, facts: Facts, *, now: Instant) -> list[str]:
        """What people should know of it now."""
        found = []
        if facts.mode is Mode.ASYNC and self._source.startswith(HYPERVISORS):
            found.append(
                f"its clock source is {self._source}: if its hypervisor freezes it or puts back a"
                " snapshot, time may pass unseen, and mode async rests on that time (R2 in"
                " safety.md); use tsc where the processor's is stable"
            )
        if self._stall is not None and now - self._stall[0] < SAID_FOR_MS:
            found.append(
                f"its agent stood still for {self._stall[1] / 1000:.1f} s, longer than a lease"
                " allows for: look for a lack of CPU, memory or disk"
            )
        return found


def clock_source(file: Path = SOURCE) -> str:
    """The kernel's name of the clock in use; "" where it does not say."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def of(agent: Agent, facts: Facts, *, now: Instant) -> list[str]:
    """Everything that a node warns of."""
    return [
        *agent.leasing.warnings(facts, now=now),
        *agent.warding.warnings(now=now),
        *slotting.warnings(agent, now=now),
        *(agent.vips.warnings(now=now) if agent.vips is not None else ()),
        *(agent.vitals.warnings(agent) if agent.vitals is not None else ()),
    ]
