"""Rule 1206: work that ended is kept for a day, for whoever asks what became of it.

The history keeps its line. The time is the Raft leader's wall clock, as in `upkeep`. Pure.
"""

from __future__ import annotations

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import NEEDS
from pgherd.plan.rule import Decision, HerdRule, Situation

KEPT_MS = 24 * 3600 * 1000


def forgets_work(s: Situation) -> Decision | None:
    if s.facts.level < NEEDS[cmd.ForgetWork]:
        return None
    before_ms = s.view.unix_ms - KEPT_MS
    works = s.facts.upkeep.works
    ended = [work for work in works if not work.is_open and work.ended_at_ms < before_ms]
    if not ended:
        return None
    reason = f"work that ended a day ago is forgotten: {', '.join(work.id for work in ended)}"
    return Decision(1206, reason, cmd.ForgetWork(before_ms=before_ms, rule=1206))


HERD_RULES: tuple[HerdRule, ...] = (
    HerdRule(1206, "Work that ended a day ago is forgotten.", forgets_work),
)
