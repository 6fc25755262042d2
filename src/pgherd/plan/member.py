"""The member decider: what this node should do to itself next.

Run by every agent on the facts as committed here, its own observation and its own durable promises.
One action at a time; an action is complete in itself and safe to do twice. The rows are grouped by
what the ledger says of this node: no cluster yet, an election, leader, follower.
"""

from __future__ import annotations

from pgherd.model import action as act
from pgherd.plan import (
    archiving,
    borrowing,
    cascade,
    crashing,
    following,
    lapse,
    leading,
    presence,
    remedies,
    room,
    sealing,
    tending,
)
from pgherd.plan.leading import names_text
from pgherd.plan.own import Answer, MemberRule, Self

__all__ = ["RULES", "MemberRule", "Self", "decide", "names_text"]

OTHERS: tuple[MemberRule, ...] = (
    *lapse.CLOSING,
    *presence.RULES,
    *tending.RULES,
    *room.RULES,
    *crashing.RULES,
    *borrowing.RULES,
    *sealing.RULES,
    *lapse.RULES,
    *leading.RULES,
    *cascade.RULES,
    *archiving.RULES,
    *remedies.RULES,
    *following.RULES,
)


def paused(s: Self) -> Answer | None:
    """In a pause another rule's repair is shown and not done."""
    if not s.facts.paused:
        return None
    why = tending.held_back(s, first_of(OTHERS, s))
    return (why, None) if why else None


PAUSED = MemberRule(
    66, "While the cluster is paused nothing is started, rewound or copied by itself.", paused
)
RULES: tuple[MemberRule, ...] = (PAUSED, *OTHERS)


def decide(s: Self) -> act.Planned:
    """What this node should do now. Pure: the same look, the same plan."""
    return first_of(RULES, s)


def first_of(rules: tuple[MemberRule, ...], s: Self) -> act.Planned:
    """What the first rule that applies says."""
    for rule in rules:
        answer = rule.decide(s)
        if answer is not None:
            return act.Planned(rule=rule.number, reason=answer[0], action=answer[1])
    return act.Planned(rule=99, reason="nothing to do", action=None)
