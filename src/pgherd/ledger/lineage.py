"""Whether a position lies on the current leader's history, from the record of reigns alone.

Timelines are never compared for this: two isolated promotions choose the same id (PROTOCOL.md 0.6).
Where a server's own history has them begin is: no reign of the ledger begins at any other point.
"""

from __future__ import annotations

from pgherd.model.branch import Fork
from pgherd.model.facts import Reign
from pgherd.model.ids import Lsn, Position, Term, Timeline

UNLIMITED = Lsn(2**64 - 1)


def reach(history: tuple[Reign, ...], epoch: Term) -> Lsn | None:
    """How far WAL of an epoch belongs to the newest reign's history; None when none of it does.

    Walks from the newest reign to its ancestors: a promotion ends its parent at the promotion
    point, a leader that kept its server ends nothing.
    """
    by_term = {reign.term: reign for reign in history}
    current = history[-1] if history else None
    limit = UNLIMITED
    while current is not None:
        if current.term == epoch:
            return limit
        if current.promoted:
            limit = min(limit, current.start.lsn)
        if current.start.epoch == epoch and current.start.epoch not in by_term:
            return limit
        current = by_term.get(current.start.epoch)
    return None


def contains(history: tuple[Reign, ...], position: Position) -> bool:
    """Whether WAL that ends at this position is a prefix of the newest reign's WAL."""
    end = reach(history, position.epoch)
    return end is not None and position.lsn <= end


def fork_of(history: tuple[Reign, ...], position: Position) -> Lsn | None:
    """Where a diverged position left the newest reign's history; None when that is not known."""
    return reach(history, position.epoch)


def attributed(history: tuple[Reign, ...], adopted: Term, seen: Position) -> Position:
    """The position of WAL whose last epoch record may be older than its last promotion.

    Between a promotion and its epoch record a new primary writes, and ships, WAL that still carries
    the old epoch; taken as such it would compare with the old primary's own end, which is another
    log. A member streams from an adopted leader only when it ends at or before that reign's start:
    so whatever it has behind the start came from that reign, recorded or not.
    """
    by_term = {reign.term: reign for reign in history}
    current = by_term.get(adopted)
    while current is not None and current.term > seen.epoch:
        if current.promoted and seen.lsn > current.start.lsn:
            return Position(current.term, seen.lsn)
        current = by_term.get(current.start.epoch)
    return seen


def forks_of(history: tuple[Reign, ...], term: Term) -> tuple[Fork, ...]:
    """The timelines that the reigns up to this term's opened, oldest first; 0: number not known."""
    by_term, found = {reign.term: reign for reign in history}, []
    current = by_term.get(term)
    while current is not None:
        if current.promoted:
            found.append(Fork(current.timeline, current.start.lsn))
        current = by_term.get(current.start.epoch)
    return tuple(reversed(found))


def kept(history: tuple[Reign, ...], term: Term) -> tuple[Fork, ...]:
    """The timelines that this term's leader opened later, where it went on from its own reigns."""
    first = next((reign for reign in history if reign.term == term), None)
    terms, found = {term}, []
    for reign in history:
        if first is None or reign.leader != first.leader or reign.start.epoch not in terms:
            continue
        if reign.term > term:
            terms.add(reign.term)
            found += [Fork(reign.timeline, reign.start.lsn)] if reign.promoted else []
    return tuple(found)


def strayed(history: tuple[Reign, ...], adopted: Term, branch: tuple[Fork, ...]) -> Fork | None:
    """The timeline by which a server left all that its adopted leaders wrote; None if it did not.

    A member takes WAL from leaders that it adopted, and from nobody else: its last timeline is one
    that a reign on the way to the adopted one opened, or that the same leader did in a later reign
    before this member's agent had heard of it, for the walreceiver needs no agent. What lies before
    that one its leader has too, however it came about. A timeline without any WAL is of a promotion
    that was cut short. None also where this cannot be judged: the adopted reign, or its origin, is
    not in the record.
    """
    known = (*forks_of(history, adopted), *kept(history, adopted))
    stray: Fork | None = None
    for place, fork in enumerate(branch):
        is_empty = any(later.begins == fork.begins for later in branch[place + 1 :])
        if not known or fork.begins < known[0].begins or is_empty:
            continue
        if any(granted(fork, reign) for reign in known):
            stray = None
        elif stray is None:
            stray = fork
    return stray


def still_strays(history: tuple[Reign, ...], adopted: Term, stray: Fork | None) -> Fork | None:
    """What a member said of itself by an older record, or a newer one: as this record has it."""
    return strayed(history, adopted, (stray,)) if stray is not None else None


def granted(fork: Fork, reign: Fork) -> bool:
    """Whether a timeline of a server is the one that a reign opened."""
    return reign.begins == fork.begins and reign.timeline in (Timeline(0), fork.timeline)


def strange(history: tuple[Reign, ...], adopted: Term, position: Position, begins: Lsn) -> bool:
    """Whether WAL whose end looks like its epoch's may be another branch, of a forgotten reign.

    begins: where its last timeline does, by PostgreSQL's own account. A ledger that was restored
    may not know the reign that a member adopted last. Its promotion shows where no epoch record
    does: the reigns up to the epoch's opened no timeline there. What lies before the oldest of them
    cannot be judged, and is common to all.
    """
    if any(reign.term == adopted for reign in history) or begins >= position.lsn:
        return False
    opened = [fork.begins for fork in forks_of(history, position.epoch)]
    return bool(opened) and begins > min(opened) and begins not in opened
