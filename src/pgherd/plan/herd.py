"""The herd decider: facts and reports in, at most one ledger command out.

Run by the Raft leader only. The first row that applies wins; a row may also say what it waits for.
Rows of one concern stand together and in the order of urgency: the end of a term, an election, its
establishment, birth, then the quiet life of a stable herd.
"""

from __future__ import annotations

from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import Instant
from pgherd.model.observation import HerdView
from pgherd.model.policy import Policy
from pgherd.plan import (
    birth,
    bylease,
    configuring,
    election,
    establishing,
    forgetting,
    forward,
    giving,
    handover,
    leases,
    membership,
    readmission,
    room,
    rotating,
    schedules,
    slotkeeping,
    standbycluster,
    suspicion,
    synchrony,
    trial,
    upgrading,
    upkeep,
)
from pgherd.plan.rule import Decision, HerdRule, Situation

URGENT: tuple[HerdRule, ...] = (
    *suspicion.RULES,
    *leases.ENDING,
    *giving.RULES,
    *birth.FIRST,
    *election.FIRST,
    *bylease.WAITS,
    *forward.RULES,
    *bylease.RULES,
    *election.RULES,
    *establishing.RULES,
    *birth.RULES,
    *standbycluster.HERD_RULES,
)
QUIET: tuple[HerdRule, ...] = (
    *schedules.RULES,
    *upgrading.RULES,
    *upkeep.RULES,
    *handover.RULES,
    *room.HERD_RULES,
    *synchrony.RULES,
    *leases.RULES,
    *membership.RULES,
    *readmission.RULES,
    *configuring.HERD_RULES,
    *trial.RULES,
    *rotating.HERD_RULES,
    *slotkeeping.HERD_RULES,
    *forgetting.HERD_RULES,
)
RULES: tuple[HerdRule, ...] = (*URGENT, *QUIET)
SENTENCES = {rule.number: rule.sentence for rule in RULES}
"""For people, by the rule's number."""


def decide(
    facts: Facts,
    *,
    view: HerdView,
    policy: Policy,
    now: Instant,
    urgent_only: bool = False,
) -> Decision:
    """What the herd should agree on next. Pure: the same look, the same decision.

    urgent_only: nothing happened but that a little time went by. A waiting reason of one rule does
    not keep a later rule from acting, but is kept for people.
    """
    situation = Situation(facts=facts, view=view, policy=policy, now=now)
    waits: Decision | None = None
    stopped = False
    for rule in URGENT if urgent_only else RULES:
        if stopped and rule.number not in EVEN_THEN:
            continue
        decision = rule.decide(situation)
        if decision is None:
            continue
        if is_act(decision):
            return decision
        waits = waits or decision
        if facts.phase is not Phase.STABLE and rule in URGENT and rule.number in STOPPING:
            stopped = True
    return waits or Decision(900, "all is well; nothing to decide")


STOPPING = frozenset({107, 304, 303, 305, 306, 307, 309, 310, 402})
"""Waiting rows of an unfinished term: nothing but membership may follow, and that can wait too."""

EVEN_THEN = frozenset({701, 702, 717, 1203})
"""Except for a member with amnesia, which may be the one that the election waits for; and for a
configuration on trial, with which servers may not come up.

Whether nobody else can have what it has shows only once a voter's new copy is written down.
"""


def is_act(decision: Decision) -> bool:
    """Whether a decision changes something, rather than wait."""
    return bool(decision.command or decision.membership or decision.transfer_to)
