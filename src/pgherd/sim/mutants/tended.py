"""Planted errors of what operators ask for: work on nodes, and servers that they stop."""

from __future__ import annotations

from contextlib import ExitStack

from pgherd.ledger import upkeep as ledger
from pgherd.model import action as act
from pgherd.model.upkeep import Verb, Work
from pgherd.plan import upkeep
from pgherd.plan.own import Answer, Self
from pgherd.plan.rule import Situation
from pgherd.sim.mutants.kind import DEATHS, Mutant
from pgherd.sim.planting import attribute
from pgherd.sim.plants import herd_rule, member_rule
from pgherd.sim.shapes import TENDED


def elected_is_waited_for(stack: ExitStack) -> None:
    """A node that is to be copied wins an election, and its work goes on for ever."""
    right = upkeep.hopeless

    def hopeless(s: Situation, work: Work) -> str:
        leads = work.node is not None and s.facts.is_leader(work.node)
        return "" if work.verb is Verb.REINIT and leads else right(s, work)

    stack.enter_context(attribute(upkeep, "hopeless", hopeless))


def never_crossed_off(stack: ExitStack) -> None:
    herd_rule(stack, 1103, lambda _: None)


def start_waits(stack: ExitStack) -> None:
    """A server that was stopped starts only when no other work on its node waits."""
    stack.enter_context(attribute(ledger, "in_the_way", lambda facts, work, c: True))


def failed_stays(stack: ExitStack) -> None:
    herd_rule(stack, 1201, lambda _: None)


def trial_stays(stack: ExitStack) -> None:
    herd_rule(stack, 1202, lambda _: None)


def by_the_primary(stack: ExitStack) -> None:
    """Whether a standby lacks something is asked of the primary, which may have less by now."""

    def too_little(s: Self) -> Answer | None:
        leader, mine = s.facts.leader, s.server
        theirs = s.config.others.get(leader.node, ()) if leader is not None else ()
        if mine.paused and theirs and mine.matched and mine.matched[0] < theirs[0]:
            return "has less than its primary", act.StopServer("less")
        return None

    member_rule(stack, 91, too_little)


CONFIG = ("config.up", "config.down", "work.rolling", "work.restart", "switchover")

ROWS: dict[str, Mutant] = {
    "elected-is-waited-for": Mutant(
        "Work to copy a node anew does not end when that node is elected.",
        elected_is_waited_for,
        ("work.reinit", "work.reinit", *DEATHS),
        ("L6",),
        TENDED,
        count=20,
    ),
    "never-crossed-off": Mutant(
        "A node that has done its part of some work stays in hand.",
        never_crossed_off,
        ("work.reinit",),
        ("L6",),
        TENDED,
    ),
    "start-waits": Mutant(
        "A stopped server is not started while other work waits for it to be there.",
        start_waits,
        ("work.stop", "work.reinit", "work.reload", *DEATHS),
        ("L6",),
        TENDED,
        count=20,
    ),
    "failed-version-stays": Mutant(
        "A version of the configuration with which a server does not come up stays in force.",
        failed_stays,
        ("config.bad", *CONFIG),
        ("L6",),
        TENDED,
    ),
    "trial-stays": Mutant(
        "A version on trial stays when nobody confirms it.",
        trial_stays,
        ("config.trial", *CONFIG),
        ("L6",),
        TENDED,
    ),
    "short-by-the-primary": Mutant(
        "A standby that needs more than it has is restarted only while its primary has more.",
        by_the_primary,
        (*CONFIG, "network.split", "standby.node.crashed", "primary.node.crashed"),
        ("L2", "L6"),
        TENDED,
        count=25,
    ),
}
