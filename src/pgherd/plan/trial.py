"""Rules 1202 and 1203: a version of the configuration on trial, and what ends it.

A trial goes well only by somebody's word. Without it, and with any sign that the cluster is worse
than it was, what was before is in force again. Pure; the wall clock here is the Raft leader's, and
nothing that keeps commits safe rests on it.
"""

from __future__ import annotations

from pgherd.ledger.commands import EndTrial
from pgherd.ledger.pgconfig import newest
from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import MemberKey, NodeId
from pgherd.model.observation import Observation
from pgherd.model.pgconfig import Trial
from pgherd.plan.look import is_fed_otherwise, is_resting, leader_report
from pgherd.plan.rule import Decision, HerdRule, Situation

LOST_MS = 10_000
"""A standby that has not streamed for so long is lost; a restart is quicker."""
PLANNED = (201, 603)
"""The rules of terms that an operator began."""


def watched(facts: Facts) -> tuple[MemberKey, ...]:
    """The members whose streams a trial watches."""
    trial = newest(facts).trial
    members = [facts.members.get(node) for node in trial.streamed] if trial is not None else []
    return tuple(member.key for member in members if member and not facts.is_leader(member.node))


def worse(s: Situation) -> Decision | None:
    """What the next servers start with is not what the last primary failed with."""
    version = newest(s.facts)
    if version.trial is None:
        return None
    why = failed_over(s, version.trial) or lost(s, version.trial)
    return end(version.version, 1203, why) if why else None


def failed_over(s: Situation, trial: Trial) -> str:
    """The first term since that nobody asked for; "" when there is none."""
    if s.facts.phase is not Phase.STABLE:
        fails = s.facts.term > trial.term and s.facts.rule not in PLANNED
        return f"the primary failed in its trial: {s.facts.reason}" if fails else ""
    for reign in s.facts.history:
        if reign.term > trial.term and reign.rule not in PLANNED:
            return f"the primary failed in its trial: {reign.reason}"
    return ""


def lost(s: Situation, trial: Trial) -> str:
    """A standby that streamed when the trial began and does not any more."""
    report = leader_report(s)
    if report is None or s.facts.phase is not Phase.STABLE:
        return ""
    gone = [node for node in trial.streamed if is_lost(s, report, node)]
    return f"{', '.join(gone)} streams no more in its trial" if gone else ""


def is_lost(s: Situation, leader: Observation, node: NodeId) -> bool:
    """Not one that an operator works on, or that streamed a moment ago."""
    member = s.facts.members.get(node)
    if member is None or member.leaving or s.facts.is_leader(node):
        return False
    key = member.key
    at_rest = is_resting(s.facts, key) or node in s.facts.upkeep.stopped
    if at_rest or s.facts.upkeep.in_hand(node) is not None:
        return False
    return leader.missing_ms.get(str(key), 0) >= LOST_MS and not is_fed_otherwise(s, member)


def time_over(s: Situation) -> Decision | None:
    version = newest(s.facts)
    if version.trial is None or s.view.unix_ms < version.trial.until_ms:
        return None
    return end(version.version, 1202, "nobody confirmed it in time")


def end(version: int, rule: int, why: str) -> Decision:
    return Decision(rule, why, EndTrial(version, confirmed=False, why=why, rule=rule))


RULES = (
    HerdRule(
        1203, "A version on trial is taken back when a primary failed or a standby is lost.", worse
    ),
    HerdRule(1202, "A version on trial that nobody confirms in time is taken back.", time_over),
)
