"""What is known of leaders that were never sealed, and what became of fencing them.

From F5 until the term is established the ledger names them; a winner that has a fencing command
runs it for each before it promotes (member rule 39), and says here how that ended.
"""

from __future__ import annotations

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.outcome import Result, note, refuse
from pgherd.model.facts import Facts, Phase

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
    kind = DONE if c.done else FAILED
    # An attempt that fails again and again is one line of history, the newest.
    mine = [n for n in facts.notes if (n.term, n.kind) == (c.term, kind) and kind == FAILED]
    kept = tuple(n for n in facts.notes if n not in mine or c.target.node not in n.text)
    facts = msgspec.structs.replace(facts, notes=kept)
    return note(facts, at_ms=at_ms, kind=kind, text=c.text, rule=39), cmd.Done()
