"""Rules 104 and 1101-1109: what the herd does for its operators, step by step.

Pure. What a node does for its part is `tending`'s. The wall clock here is the Raft leader's: it
says when an operator's time has come, and nothing that keeps commits safe rests on it.
"""

from __future__ import annotations

from pgherd.ledger import commands as cmd
from pgherd.plan.rule import Decision, HerdRule, Situation


def pause_ends(s: Situation) -> Decision | None:
    pause = s.facts.upkeep.pause
    if pause is None or not pause.until_ms or s.view.unix_ms < pause.until_ms:
        return None
    reason = f"the pause asked for by {pause.requested_by} is over"
    return Decision(104, reason, cmd.Resume(id=pause.id, reason=reason))


RULES = (
    HerdRule(104, "A pause ends when its time is over on the Raft leader's clock.", pause_ends),
)
