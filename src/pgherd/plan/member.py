"""The member decider: what this node should do to itself next.

Run by every agent on the facts as committed here, its own observation and its own durable promises.
One action at a time; an action is complete in itself and safe to do twice. The rows are grouped by
what the ledger says of this node: no cluster yet, an election, leader, follower.
"""

from __future__ import annotations

from pgherd.model import action as act
from pgherd.plan import borrowing, following, lapse, leading, presence, sealing
from pgherd.plan.leading import names_text
from pgherd.plan.own import MemberRule, Self

__all__ = ["RULES", "MemberRule", "Self", "decide", "names_text"]

RULES: tuple[MemberRule, ...] = (
    *lapse.CLOSING,
    *presence.RULES,
    *borrowing.RULES,
    *sealing.RULES,
    *lapse.RULES,
    *leading.RULES,
    *following.RULES,
)


def decide(s: Self) -> act.Planned:
    """What this node should do now. Pure: the same look, the same plan."""
    for rule in RULES:
        answer = rule.decide(s)
        if answer is not None:
            return act.Planned(rule=rule.number, reason=answer[0], action=answer[1])
    return act.Planned(rule=99, reason="nothing to do", action=None)
