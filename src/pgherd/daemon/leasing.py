"""This node's part in leases: what it may count on, what it lets expire, and what it says.

Joins the two clocks of `plan.leaseclock` with this machine's. Owns the warning that a lease ran
out, which a node cut off from consensus can learn from nobody else. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from pgherd.daemon.cautions import Cautions, clock_source
from pgherd.model.facts import Facts
from pgherd.model.ids import Instant, MemberKey, NodeId
from pgherd.model.lease import Ask
from pgherd.model.promises import Promises
from pgherd.plan.leaseclock import ExpiryClock, HolderClock, leads
from pgherd.telemetry import logs

log = logs.get("daemon")


class Leasing:
    """The leases as one node sees them. tell: an event's kind and its sentence, for the journal."""

    def __init__(self, me: NodeId, *, boot: str, tell: Callable[[str, str], None]) -> None:
        self.expiry = ExpiryClock()
        self._me = me
        self._holder = HolderClock(boot)
        self._tell = tell
        self._counted = 0
        self._lost = 0
        self._cautions = Cautions(clock_source())

    def key(self, promises: Promises) -> MemberKey:
        return MemberKey(self._me, promises.incarnation)

    def left_ms(self, facts: Facts, promises: Promises, *, now: Instant) -> int | None:
        """What is left of this node's lease; None where the ledger gave it none."""
        me, promise = self.key(promises), promises.promise
        return self._holder.left_ms(facts, me=me, promise=promise, now=now)

    def has(self, facts: Facts, promises: Promises, *, now: Instant) -> bool:
        """Whether a primary may write alone now, as far as leases go."""
        me, promise = self.key(promises), promises.promise
        return self._holder.allows(facts, me=me, promise=promise, now=now)

    def deadline(self, facts: Facts, promises: Promises) -> Instant | None:
        """When this node's lease ends here; None where there is none that it may count on."""
        return self._holder.deadline(facts, me=self.key(promises), promise=promises.promise)

    def ask(self, facts: Facts, promises: Promises, *, now: Instant) -> Ask | None:
        """The wish that goes into a report made now."""
        return self._holder.ask(now) if leads(facts, self.key(promises)) else None

    def woke(self, now: Instant, *, late_ms: int, ttl_ms: int, offset_ms: int) -> None:
        """The loop comes round: late by so much, the wall clock being ahead of ours by offset_ms.

        What shows that time went by unseen costs the lease; where none counts it is only said.
        """
        self.was_late(now, late_ms=late_ms, ttl_ms=ttl_ms)
        self.was_stepped(now, offset_ms=offset_ms)
        self._cautions.stalled(now, late_ms=late_ms, ttl_ms=ttl_ms)

    def warnings(self, facts: Facts, *, now: Instant) -> list[str]:
        """What people should know of this node's clocks and stalls."""
        return self._cautions.warnings(facts, now=now)

    def was_late(self, now: Instant, *, late_ms: int, ttl_ms: int) -> None:
        """The loop came round late by this much: beyond the margin the lease is lost."""
        if self._holder.was_late(now, late_ms=late_ms, ttl_ms=ttl_ms) and self._counted:
            log.warning("lease.distrusted", late_ms=late_ms, reason="the agent's loop stood still")

    def was_stepped(self, now: Instant, *, offset_ms: int) -> None:
        """The wall clock as it is now against ours: if it jumped, the lease is lost."""
        if self._holder.was_stepped(now, offset_ms=offset_ms) and self._counted:
            log.warning("lease.distrusted", reason="the wall clock was set: time may have been hid")

    def look(self, facts: Facts, promises: Promises, *, now: Instant) -> None:
        """Say once when the lease of a reign has run out, and when it is back."""
        left = self.left_ms(facts, promises, now=now)
        if left is None:
            return
        assert facts.lease is not None
        term = facts.term
        if left:
            self._counted = term
            if self._lost == term:
                self._lost = 0
                log.info("lease.regained", term=term)
                self._tell("lease.regained", f"the lease of {self._me} is renewed again")
        elif self._counted == term != self._lost:
            self._lost = term
            text = f"the lease of {self._me} ran out: consensus did not renew it; {effect(facts)}"
            log.warning("lease.lost", term=term, reason=text)
            self._tell("lease.lost", text)


def effect(facts: Facts) -> str:
    """What a lease that ran out means for clients."""
    if facts.sync.voters:
        return "that stops no write, for standbys acknowledge them"
    return "writes wait, for no standby has them"
