"""Rule 1106: of a minor upgrade, who runs what is on its disk has no turn, or has had it. Pure.

A minor upgrade is a rolling restart of those whose server is older than what is on their disks. An
old primary comes back from the switchover with the new programs: it is not restarted once more.
"""

from __future__ import annotations

from pgherd.ledger import commands as cmd
from pgherd.model.ids import NodeId
from pgherd.model.programs import version_text
from pgherd.model.upkeep import Work
from pgherd.plan.look import fresh
from pgherd.plan.rule import Decision, HerdRule, Situation
from pgherd.plan.upkeep import MOVES, current, has_moved, next_node


def is_new(s: Situation, node: NodeId) -> str:
    """The version that a node runs, where nothing newer waits for a restart; else ""."""
    report = fresh(s, node)
    if report is None or not report.server.programs.running or report.server.programs.is_outdated:
        return ""
    return version_text(report.server.programs.running)


def passed_over(s: Situation) -> Decision | None:
    for work in current(s):
        if work.only_outdated:
            decision = has_turn_behind(s, work) if work.node is not None else has_no_turn(s, work)
            if decision is not None:
                return decision
    return None


def has_no_turn(s: Situation, work: Work) -> Decision | None:
    node = next_node(s, work)
    version = is_new(s, node) if node is not None else ""
    if node is None or not version or is_young(s, work):
        return None
    passes = cmd.CrossOff(id=work.id, step=work.step, rule=1106, passes=node)
    return Decision(1106, f"{node} runs {version} already", passes)


def is_young(s: Situation, work: Work) -> bool:
    """Whether a fresh report may be of before it was asked for, and of what was installed then."""
    return s.view.unix_ms - work.asked_at_ms < s.policy.detect_ms


def has_turn_behind(s: Situation, work: Work) -> Decision | None:
    """A primary that handed over is a new server since."""
    node = work.node
    assert node is not None
    if work.mark != MOVES or node not in s.facts.members or not has_moved(s, work, node):
        return None
    version = is_new(s, node)
    if not version:
        return None
    crossed = cmd.CrossOff(id=work.id, step=work.step, rule=1106)
    return Decision(1106, f"{node} has handed over and runs {version} since", crossed)


RULES = (
    HerdRule(
        1106, "In a minor upgrade a node that runs what is on its disk is passed.", passed_over
    ),
)
