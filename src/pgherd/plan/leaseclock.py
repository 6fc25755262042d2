"""The two clocks of a lease: its holder's, and that of the Raft leader (PROTOCOL.md 9).

Theory of operation. The holder reads its clock, asks, and counts from that reading once the renewal
is committed. A Raft leader counts from when it applied the renewal, which was later, and waits for
longer. So the holder's time is over first, if the clocks' rates differ by no more than the drift:

    holder    ask ------------- ttl - margin -----|
    leader         apply ------------------ ttl * (1 + drift) + delivery ---| expires

Nothing is counted in timers: whoever decides passes what its clock (BOOTTIME) says at that moment,
so that a loop that stood still cannot believe in time that has passed. Pure; used by daemon and
simulator alike. Owns no decision: what an end means is for the rules in `leases` and `lapse`.
"""

from __future__ import annotations

from pgherd.ledger.leases import reigns
from pgherd.model.facts import Facts
from pgherd.model.ids import Instant, MemberKey, Term
from pgherd.model.lease import Ask, Lease, expiry_ms, held_ms, margin_ms

STEP_MS = 1000
"""How far the wall clock may move against BOOTTIME between two looks; slewing does far less."""


class HolderClock:
    """The holder's side: until when this node may count on the lease that the ledger gives it.

    boot: names the clock, so that a reading outlives the process but not the machine's next start.
    """

    def __init__(self, boot: str) -> None:
        self._boot = boot
        self._trusts_since = Instant(0)
        self._offset_ms: int | None = None

    def ask(self, now: Instant) -> Ask:
        """A wish for a renewal; now: read before anything is sent."""
        return Ask(self._boot, now)

    def was_late(self, now: Instant, *, late_ms: int, ttl_ms: int) -> bool:
        """Whether the loop stood still for longer than the margin allows for.

        What was asked before counts no more then: the next renewal must be asked by a live loop.
        """
        if late_ms <= margin_ms(ttl_ms):
            return False
        self._trusts_since = now
        return True

    def was_stepped(self, now: Instant, *, offset_ms: int) -> bool:
        """Whether the wall clock moved against this one since the last look (PROTOCOL.md 8, R2 b).

        A hypervisor that froze the machine, or put it back, may hide that from this clock; who sets
        the wall clock right afterwards shows it. offset_ms: wall clock minus this one. What was
        asked before counts no more then.
        """
        before, self._offset_ms = self._offset_ms, offset_ms
        if before is None or abs(offset_ms - before) <= STEP_MS:
            return False
        self._trusts_since = now
        return True

    def deadline(self, facts: Facts, *, me: MemberKey, promise: Term) -> Instant | None:
        """The instant at which the lease ends for its holder; None for who has none.

        A term above the lease's, in the ledger or promised, has ended it.
        """
        lease = facts.lease
        if lease is None or not holds(facts, me) or lease.expired or promise > lease.term:
            return None
        asked = lease.asked
        if asked is None or asked.by != self._boot or asked.at < self._trusts_since:
            return None
        return Instant(asked.at + held_ms(lease.ttl_ms))

    def left_ms(self, facts: Facts, *, me: MemberKey, promise: Term, now: Instant) -> int | None:
        """What is left of the lease, at least 0; None for a member that the ledger gave none."""
        if not holds(facts, me):
            return None
        deadline = self.deadline(facts, me=me, promise=promise)
        return max(0, deadline - now) if deadline is not None else 0

    def allows(self, facts: Facts, *, me: MemberKey, promise: Term, now: Instant) -> bool:
        """Whether a primary may write alone now, as far as leases go.

        While the ledger knows no leases, because every leader so far was of an older program, none
        is asked for.
        """
        left = self.left_ms(facts, me=me, promise=promise, now=now)
        return facts.lease is None or bool(left)


def leads(facts: Facts, me: MemberKey) -> bool:
    """Whether a member is the leader of the current term: it asks for a lease, or has one."""
    return facts.leader == me and reigns(facts)


def holds(facts: Facts, me: MemberKey) -> bool:
    """Whether the ledger's lease is this member's, as leader of the current term."""
    lease = facts.lease
    is_its = lease is not None and (lease.holder, lease.term) == (me, facts.term)
    return is_its and leads(facts, me)


class ExpiryClock:
    """The Raft leader's side: since when each lease has not been renewed.

    A node that comes to lead knows nothing of before: it gives every lease its whole time again.
    """

    def __init__(self) -> None:
        self._raft_term = 0
        self._since: dict[tuple[int, int], Instant] = {}

    def follow(self, facts: Facts, *, raft_term: int, now: Instant) -> None:
        """Look at the leases as applied; to be called when something was applied and before `over`.

        raft_term: the one in which this node leads consensus and has applied an entry of its own,
        else 0.
        """
        if raft_term != self._raft_term:
            self._raft_term, self._since = raft_term, {}
        if not raft_term:
            return
        marks = [lease.mark for lease in running(facts)]
        if list(self._since) != marks:
            self._since = {mark: self._since.get(mark, now) for mark in marks}

    def over(self, facts: Facts, *, now: Instant) -> tuple[tuple[int, int], ...]:
        """The marks of the leases whose time is over here; none while another one leads."""
        ends = ((lease.mark, self.expires_at(lease)) for lease in running(facts))
        return tuple(mark for mark, end in ends if end is not None and now >= end)

    def expires_at(self, lease: Lease) -> Instant | None:
        """When a lease is over by this node's clock, unless renewed; None if it cannot say."""
        since = self._since.get(lease.mark)
        return Instant(since + expiry_ms(lease.ttl_ms)) if since is not None else None


def running(facts: Facts) -> list[Lease]:
    """The leases that have not ended."""
    lease = facts.lease
    if lease is None:
        return []
    found = [] if lease.former is None else [lease.former]
    return found if lease.expired else [*found, lease]
