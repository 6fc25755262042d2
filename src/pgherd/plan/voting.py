"""Who should vote: a choice among the members of consensus, the same for the same look.

Theory of operation. Of the members that answer and have the log, as many vote as
`raft.max_voters` allows. A witness is there to vote, so witnesses take seats first, but never half
of them as long as there is data to seat. Each group is spread over the zones; within a zone, and
between zones where it is equal, who votes now goes on voting. So a choice that was carried out is
chosen again, and nothing moves until a voter is lost or the spread can be better. A voter that has
been silent for long loses its seat only to somebody who can take it.

Owns the choice alone. The steps towards it, and what they wait for, are `membership`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from pgherd.model.ids import NodeId


class Candidate(msgspec.Struct, frozen=True):
    """A member of consensus that stays. able: it answers and has the log, so it can vote.

    votes: it has a vote now · leads: it is the Raft leader, which a change should spare.
    """

    node: NodeId
    witness: bool = False
    zone: str = ""
    votes: bool = False
    leads: bool = False
    able: bool = True


def choose(candidates: Iterable[Candidate], *, seats: int) -> frozenset[NodeId]:
    """Who is to vote, at most `seats` members; the lost keep what nobody else can take."""
    everybody = sorted(candidates, key=lambda one: one.node)
    chosen = among_able([one for one in everybody if one.able], seats)
    lost = [one for one in everybody if one.votes and not one.able]
    chosen += spread(lost, seats - len(chosen), beside=chosen)
    return frozenset(one.node for one in chosen)


def among_able(able: Sequence[Candidate], seats: int) -> list[Candidate]:
    """Fill the seats with members that can vote: some witnesses, the rest data members."""
    data = [one for one in able if not one.witness]
    witnesses = [one for one in able if one.witness]
    seats = min(seats, len(able))
    minority = min(len(witnesses), max(0, (seats - 1) // 2))
    witness_seats = max(minority, seats - len(data))
    chosen = spread(data, seats - witness_seats, beside=[])
    return chosen + spread(witnesses, witness_seats, beside=chosen)


def spread(
    group: Sequence[Candidate], seats: int, *, beside: Sequence[Candidate]
) -> list[Candidate]:
    """One after the other from the zone with the fewest voters, who votes now before others."""
    left = list(group)
    chosen: list[Candidate] = []
    used = Counter(one.zone for one in beside)
    while left and len(chosen) < seats:
        best = min(left, key=lambda one: (used[one.zone], not one.votes, not one.leads, one.node))
        left.remove(best)
        chosen.append(best)
        used[best.zone] += 1
    return chosen
