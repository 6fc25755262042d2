"""What is known of leaders that were never sealed, and what became of fencing them.

From F5 until the term is established the ledger names them; a winner that has a fencing command
runs it for each before it promotes (member rule 39), and says here how that ended.
"""

from __future__ import annotations

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.outcome import Result, note, refuse
from pgherd.model.facts import Facts, Note, Phase

FAILED = "fence.failed"
DONE = "fence.done"


def fenced(facts: Facts, c: cmd.Fenced, at_ms: int) -> Result:
    """A fencing command ended: fenced or not, the winner promotes only if nobody is left."""
    leader = facts.leader.node if facts.leader is not None else None
    if facts.phase is not Phase.ESTABLISHING or facts.term != c.term or leader != c.by:
        return refuse(facts, "stale", f"term {facts.term} is {facts.phase.value} under {leader}")
    if c.target not in facts.unsealed:
        return refuse(facts, "already", f"{c.target.node} is fenced or sealed")
    if c.done or c.go_on:
        left = tuple(key for key in facts.unsealed if key != c.target)
        facts = msgspec.structs.replace(facts, unsealed=left)
    else:
        facts = msgspec.structs.replace(facts, reason=c.text)
    if c.done:
        return note(facts, at_ms=at_ms, kind=DONE, text=c.text, rule=39), cmd.Done()
    # An attempt that fails again and again is one line of history, the newest.
    kept = tuple(one for one in facts.notes if not tells_of(one, c))
    facts = msgspec.structs.replace(facts, notes=kept)
    return note(facts, at_ms=at_ms, kind=FAILED, text=c.text, rule=39), cmd.Done()


def tells_of(one: Note, c: cmd.Fenced) -> bool:
    """Whether a note is of an earlier attempt that failed, against the same leader in this term."""
    return (one.term, one.kind) == (c.term, FAILED) and c.target.node in one.text
