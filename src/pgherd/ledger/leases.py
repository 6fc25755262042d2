"""What the lease commands do to the ledger's lease (PROTOCOL.md 9). Reads no clock.

A refusal is its reason. Owns which lease follows which; when one is over is for `plan.leaseclock`
to say and for these functions to believe only if the lease was not renewed meanwhile.

A term that has begun ends the renewals of the old one: they name a term that is not the ledger's.
The old holder may not know of it yet, so its lease stays in the record as the `former` one of the
winner's until it has ended too; only then is the winner's sole.
"""

from __future__ import annotations

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import MemberKey
from pgherd.model.lease import Lease

replace = msgspec.structs.replace


def elected(old: Lease | None, c: cmd.Elect) -> Lease | None:
    """The winner's lease (F5). Without a time to live there is none; nothing is forgotten."""
    if not c.lease_ttl_ms:
        return old
    return Lease(
        id=old.id + 1 if old is not None else 1,
        holder=c.winner,
        term=c.term,
        ttl_ms=c.lease_ttl_ms,
        former=still_held(old, other_than=c.winner),
    )


def still_held(old: Lease | None, *, other_than: MemberKey) -> Lease | None:
    """The lease that another member may still count on.

    One that was not sole yet was never counted on, nor ever will be: the one before it matters.
    """
    if old is None:
        return None
    held = old.former or (None if old.expired else old)
    return held if held is not None and held.holder != other_than else None


def granted(facts: Facts, c: cmd.GrantLease) -> Lease | str:
    """A new lease in the same term, for a leader whose lease has expired.

    Its writes were stopped where they had to be, and nobody else was elected: giving it another one
    is what its election gave it, and costs no new term.
    """
    old = facts.lease
    if facts.term != c.term or facts.leader != c.holder or not reigns(facts):
        return f"term {facts.term} is {facts.phase.value} under {facts.leader}"
    if (old.id if old is not None else 0) != c.expected:
        return f"the lease is number {old.id if old is not None else 0}, not {c.expected}"
    if old is not None and not old.expired and old.term == c.term:
        return f"lease {old.id} has not expired"
    former = still_held(old, other_than=c.holder)
    return Lease(
        id=c.expected + 1,
        holder=c.holder,
        term=c.term,
        ttl_ms=c.ttl_ms,
        former=former,
        alone_at=old.alone_at if old is not None and old.term == c.term else 0,
    )


def reigns(facts: Facts) -> bool:
    """Whether the current term has a leader."""
    return facts.phase in (Phase.ESTABLISHING, Phase.STABLE)


def renewed(facts: Facts, c: cmd.RenewLease) -> Lease | str:
    """The lease with its whole time anew; only as asked later than before, in its own term."""
    lease = facts.lease
    if lease is None or (lease.id, lease.holder) != (c.id, c.holder):
        return f"{c.holder} does not hold lease {c.id}"
    if facts.term != c.term or lease.term != c.term:
        return f"the term is {facts.term}, the lease is of term {lease.term}"
    if lease.expired:
        return f"lease {lease.id} has expired"
    last = lease.asked
    if last is not None and last.by == c.ask.by and last.at >= c.ask.at:
        return f"lease {lease.id} was renewed by a later ask"
    return replace(
        lease,
        renew_seq=lease.renew_seq + 1,
        asked=c.ask,
        flush_lsn=c.flush_lsn,
        alone_at=max(lease.alone_at, c.alone_at),
    )


def ended(lease: Lease | None, c: cmd.ExpireLease) -> Lease | str:
    """The record after the end of the lease that is meant: the present one, or the former."""
    mark = (c.id, c.renew_seq)
    if lease is not None and lease.former is not None and lease.former.mark == mark:
        return replace(lease, former=None)
    if lease is None or lease.mark != mark:
        return f"lease {c.id} was renewed or has another holder"
    if lease.expired:
        return f"lease {c.id} has expired already"
    return replace(lease, expired=True)
