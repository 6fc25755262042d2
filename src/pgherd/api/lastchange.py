"""Why the primary changed last: the rule, what it saw, and when each step was. Pure.

Made of what the ledger keeps: the record of reigns, and its notes, which any node can tell. Times
are the wall clocks of those who decided, for people.
"""

from __future__ import annotations

from itertools import pairwise

from pgherd.api.explainschema import ChangeStep, LastChange
from pgherd.api.stories import reign_kind
from pgherd.api.times import iso
from pgherd.model.facts import Facts, Note, Reign
from pgherd.model.ids import format_lsn
from pgherd.plan import herd

OF_A_TERM = frozenset(
    {
        "term.begun",
        "leader.drained",
        "candidate.catches-up",
        "data.given-up",
        "data.loss-accepted",
        "fence.ended",
        "leader.elected",
        "term.established",
    }
)
ASKED = {6: ("switchover.requested", "switchover.held"), 2: ("failover.requested",)}
"""What people asked for under the term before, by the hundreds of the rule that began the next."""
ORDERED = 201


def last_change(facts: Facts) -> LastChange | None:
    """The newest change to another node; None where there was none, or it is forgotten."""
    reigns = [reign for reign in facts.history if reign.established]
    for old, new in reversed(list(pairwise(reigns))):
        if old.leader.node != new.leader.node:
            return changed(facts, old, new)
    return None


def changed(facts: Facts, old: Reign, new: Reign) -> LastChange:
    found = steps(facts.notes, old, new)
    first = next((one for one in found if one.kind == "term.begun"), None)
    began = first.at_ms if first is not None else new.began_at_ms
    start = found[0].at_ms if found else began
    return LastChange(
        kind=reign_kind(new),
        from_node=old.leader.node,
        to_node=new.leader.node,
        epoch=new.term,
        lsn=format_lsn(new.start.lsn),
        rule=new.rule,
        sentence=herd.SENTENCES.get(new.rule, ""),
        reason=new.reason,
        duration_ms=max(0, new.established_at_ms - began) if began else None,
        lost_bytes=new.lost_bytes,
        steps=[
            ChangeStep(
                at=iso(one.at_ms) or "",
                after_ms=one.at_ms - start,
                kind=one.kind,
                rule=one.rule,
                sentence=herd.SENTENCES.get(one.rule, ""),
                text=one.text,
            )
            for one in found
        ],
    )


def steps(notes: tuple[Note, ...], old: Reign, new: Reign) -> list[Note]:
    """The notes of all terms that it took, and of the wish that began it, the oldest first.

    One of an older reign is not this one's: only the newest of each kind is taken.
    """
    of_terms = [one for one in notes if old.term < one.term <= new.term and one.kind in OF_A_TERM]
    begun = next((one for one in of_terms if one.kind == "term.begun"), None)
    if begun is None or (begun.rule // 100 == 2 and begun.rule != ORDERED):
        return of_terms
    wishes = []
    for kind in ASKED.get(begun.rule // 100, ()):
        asked = [one for one in notes if one.kind == kind and one.term == old.term]
        wishes += asked[-1:]
    return [*wishes, *of_terms]
