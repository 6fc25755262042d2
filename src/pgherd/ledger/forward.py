"""The grant of a fast-forward: who may take WAL from whom while an election lasts (PROTOCOL.md F4).

Owns what the ledger takes and refuses. Leaves to `plan` who needs it; it ends with the election.
"""

from __future__ import annotations

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.outcome import Result, note, refuse
from pgherd.model.facts import Facts, FastForward, Phase


def fast_forward(facts: Facts, c: cmd.FastForward, at_ms: int) -> Result:
    """Record the grant; a later one of the same election replaces it."""
    if facts.phase is not Phase.ELECTING or facts.term != c.term or facts.elector != c.elector:
        text = f"term {facts.term} is {facts.phase.value} by {facts.elector}"
        return refuse(facts, "stale", text)
    if facts.handover is not None:
        return refuse(facts, "busy", "in a switchover the old primary waits for its candidate")
    if c.candidate == c.holder:
        return refuse(facts, "invalid", f"{c.holder} cannot take from itself")
    for key in (c.candidate, c.holder):
        if facts.member(key) is None:
            return refuse(facts, "unknown_node", f"{key} is no member with that incarnation")
    grant = FastForward(c.candidate, c.holder, c.target)
    facts = msgspec.structs.replace(facts, forward=grant)
    return note(
        facts, at_ms=at_ms, kind="candidate.catches-up", text=c.reason, rule=c.rule
    ), cmd.Done()
