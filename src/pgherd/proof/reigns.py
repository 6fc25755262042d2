"""I7 and I8 on a real cluster: each reign begins behind all that was acknowledged before it.

Pure. Owns the verdict on acknowledgements against the ledger's history of reigns: every commit that
was acknowledged before a reign began lies before the point where that reign's history leaves its
predecessor's; only the primary of a reign acknowledged its commits; and nobody acknowledged a
commit that was asked for after a later reign had acknowledged one of its own. Which reign a commit
belongs to is told by its position, as PostgreSQL's WAL has it, and never by wall time: a reply may
arrive after a seal (PROTOCOL.md 6, L3), a commit may not begin after the next reign's first
acknowledgement. A winner that was never established acknowledged nothing, and may have begun ahead
of the next one. Making acknowledgements is `writers`' and `probes`'; whether rows are lost is
`history`'s.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import attrgetter, itemgetter

import msgspec


class Reigned(msgspec.Struct, frozen=True):
    """One reign. start: where its history leaves its predecessor's; began_at: seconds."""

    term: int
    primary: str
    start: int
    began_at: float
    established_at: float | None
    kind: str


class Ack(msgspec.Struct, frozen=True):
    """A commit that somebody was told of, and where it lies. node: who said so, if that is known.

    term: the newest epoch record that the commit's own transaction saw, 0 if it did not look.
    """

    name: str
    lsn: int
    started: float
    finished: float
    node: str = ""
    term: int = 0


def judge(reigns: Sequence[Reigned], acks: Iterable[Ack]) -> list[str]:
    """Everything that is wrong, in words; nothing of it may ever be seen."""
    begun = sorted(reigns, key=attrgetter("term"))
    ruling = [reign for reign in begun if reign.established_at is not None]
    given = sorted(acks, key=attrgetter("finished"))
    return [
        *_wrong_starts(ruling),
        *_uncontained(begun, given),
        *_foreign(ruling, given),
        *_interleaved(ruling, given),
    ]


def reign_of(ruling: Sequence[Reigned], lsn: int) -> Reigned | None:
    """Which reign a position belongs to; reigns by term. None: before the first that is known."""
    place = bisect_right(ruling, lsn, key=attrgetter("start"))
    return ruling[place - 1] if place else None


def _wrong_starts(ruling: Sequence[Reigned]) -> list[str]:
    return [
        f"term {later.term} of {later.primary} begins before term {one.term} of {one.primary} did"
        for one, later in pairwise(ruling)
        if later.start < one.start
    ]


def _uncontained(begun: Sequence[Reigned], given: Sequence[Ack]) -> list[str]:
    """Commits acknowledged before a reign began that lie behind the point where it began.

    Of every winner, also of one that was never established.
    """
    found = []
    for reign in begun:
        end = bisect_right(given, reign.began_at, key=attrgetter("finished"))
        worst = max(given[:end], key=attrgetter("lsn"), default=None)
        if worst is not None and worst.lsn >= reign.start:
            found.append(
                f"{worst.name} was acknowledged before term {reign.term} of {reign.primary} began, "
                f"but lies behind its start: {worst.lsn} >= {reign.start}"
            )
    return found


def _foreign(ruling: Sequence[Reigned], given: Sequence[Ack]) -> list[str]:
    """Acknowledgements by a node that was not the primary of that part of the history."""
    found = []
    for ack in given:
        reign = reign_of(ruling, ack.lsn)
        if reign is None:
            continue
        if ack.node and ack.node != reign.primary:
            found.append(
                f"{ack.name} was acknowledged by {ack.node}, but lies in term {reign.term} "
                f"of {reign.primary}"
            )
        if ack.term > reign.term:
            found.append(f"{ack.name} saw term {ack.term}, but lies in term {reign.term}")
    return found


def _interleaved(ruling: Sequence[Reigned], given: Sequence[Ack]) -> list[str]:
    """Acknowledged commits that were asked for after a later reign had acknowledged one."""
    firsts: list[tuple[float, int, str]] = []
    for ack in given:
        term = _term_of(ruling, ack)
        if not firsts or term > firsts[-1][1]:
            firsts.append((ack.finished, term, ack.name))
    found = []
    for ack in given:
        place = bisect_left(firsts, ack.started, key=itemgetter(0))
        _, later, name = firsts[place - 1] if place else (0.0, 0, "")
        term = _term_of(ruling, ack)
        if later > term:
            found.append(
                f"{ack.name} was asked for and acknowledged in term {term}, after "
                f"{name} had been acknowledged in term {later}"
            )
    return found


def _term_of(ruling: Sequence[Reigned], ack: Ack) -> int:
    """The term of the history that an acknowledged commit lies in; 0: before what is known."""
    reign = reign_of(ruling, ack.lsn)
    return reign.term if reign is not None else 0
