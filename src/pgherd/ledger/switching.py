"""An operator's wish for a planned change of primary: asked for, begun with a hold, ended.

Owns these commands. The change itself is a term like any other (`apply`).
"""

from __future__ import annotations

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.outcome import Result, note, refuse
from pgherd.ledger.upkeep import switchover_asked
from pgherd.model.facts import Facts, Phase, Switchover
from pgherd.model.upkeep import WorkState

replace = msgspec.structs.replace


def request(facts: Facts, c: cmd.RequestSwitchover, at_ms: int) -> Result:
    if facts.switchover is not None:
        who = facts.switchover.requested_by
        return refuse(facts, "busy", f"a switchover asked for by {who} is under way")
    if facts.phase is not Phase.STABLE:
        return refuse(facts, "not_stable", f"term {facts.term} is {facts.phase.value}")
    if c.candidate is not None and c.candidate not in facts.members:
        return refuse(facts, "unknown_node", f"{c.candidate} is no member")
    if c.candidate is not None and facts.is_leader(c.candidate):
        return refuse(facts, "already_leader", f"{c.candidate} is the primary already")
    work = facts.upkeep.work(c.id)
    if work is not None and work.state is not WorkState.PENDING:
        return refuse(facts, "has_ended", f"{work.what} ({work.id}) was begun before")
    wish = Switchover(
        id=c.id, candidate=c.candidate, requested_by=c.requested_by, requested_at_ms=at_ms
    )
    facts = replace(switchover_asked(facts, c, at_ms), switchover=wish)
    text = f"switchover to {c.candidate or 'the best candidate'} asked for by {c.requested_by}"
    return note(facts, at_ms=at_ms, kind="switchover.requested", text=text), cmd.Done()


def end(facts: Facts, c: cmd.EndSwitchover, at_ms: int) -> Result:
    if facts.switchover is None or facts.switchover.id != c.id:
        return refuse(facts, "stale", f"no switchover {c.id} is under way")
    if facts.phase is not Phase.STABLE:
        return refuse(facts, "too_late", "the handover has begun")
    facts = replace(facts, switchover=None)
    return note(facts, at_ms=at_ms, kind="switchover.ended", text=c.outcome), cmd.Done()


def hold(facts: Facts, c: cmd.Hold, at_ms: int) -> Result:
    """From here on no proxy lets a transaction begin, until the reign or the wish ends."""
    wish = facts.switchover
    if wish is None or wish.id != c.id:
        return refuse(facts, "stale", f"no switchover {c.id} is under way")
    if facts.phase is not Phase.STABLE or facts.term != c.term:
        return refuse(facts, "too_late", f"term {facts.term} is {facts.phase.value}")
    if wish.held:
        return refuse(facts, "already", "clients are held already")
    facts = replace(facts, switchover=replace(wish, held=True))
    return note(facts, at_ms=at_ms, kind="switchover.held", text=c.reason, rule=c.rule), cmd.Done()
