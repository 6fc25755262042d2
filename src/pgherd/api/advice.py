"""States that only people can end, and what they can do about each, for `status` and `explain`.

Pure. Owns the sentences and the commands in them, and whether an election can end, which is the
deciders' own question asked of what this node heard. What else is so is derived in `views`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import Instant, MemberKey, NodeId, Position
from pgherd.model.observation import Heard, HerdView
from pgherd.model.policy import Policy
from pgherd.plan.election import from_above, quorum_problem
from pgherd.plan.giving import missing
from pgherd.plan.look import sealed
from pgherd.plan.rule import Situation

PAIR = 2
WITNESS = "pgherd add-node --name w1 --address ADDRESS --witness"


def too_few_to_lose_one(voting: Sequence[str]) -> list[str]:
    """That two votes are both needed, while both are there."""
    if len(voting) != PAIR:
        return []
    return [
        f"{' and '.join(voting)} are all that vote: if one is lost, the other has no quorum and is "
        f"not made primary by itself; let a third machine vote: {WITNESS}"
    ]


def lost_quorum(me: NodeId, voting: Sequence[str]) -> list[str]:
    """Why there is no quorum; with two votes also what is left to do."""
    found = ["no quorum: consensus has no leader that this node hears"]
    if len(voting) == PAIR and me in voting:
        [other] = [name for name in voting if name != me]
        found.append(
            f"of two votes both are needed and {other} is silent: nobody is made primary by "
            f"itself; start {other}, or if it is lost for good stop {me} and type there: "
            f"pgherd raft recover; afterwards: {WITNESS}"
        )
    return found


def give_up_command(missing: Sequence[str], *, to: str | None = None) -> str:
    """What to type when those that an election waits for are lost for good."""
    words = ["pgherd failover --force", *([f"--to {to}"] if to else [])]
    return " ".join([*words, *(f"--lost {name}" for name in sorted(set(missing)))])


class Waits(msgspec.Struct, frozen=True):
    """An election that cannot end: why, for whom, and the best of what is sealed.

    missing: nobody, where no member's loss is what it waits for.
    """

    problem: str
    missing: tuple[MemberKey, ...]
    best: Position | None


def look(
    facts: Facts, reports: Mapping[NodeId, Heard], *, me: NodeId, now: Instant, fresh_ms: int
) -> Situation:
    """What a node has heard, as the deciders look at it."""
    view = HerdView(me=me, reports=dict(reports), since=now, phase_since=now, names_since=now)
    return Situation(facts=facts, view=view, policy=Policy(detect_ms=fresh_ms), now=now)


def waits(
    facts: Facts, reports: Mapping[NodeId, Heard], *, me: NodeId, now: Instant, fresh_ms: int
) -> Waits | None:
    """What the present election waits for, as far as a node has heard; None when for nothing."""
    if facts.phase is not Phase.ELECTING or facts.handover is not None:
        return None
    found = look(facts, reports, me=me, now=now, fresh_ms=fresh_ms)
    done = sealed(found)
    problem = quorum_problem(found, done)
    if not problem:
        return None
    away = () if from_above(found, done) else tuple(missing(facts, done))
    return Waits(problem, away, max(done.values(), default=None))


def stuck_election(found: Waits | None) -> list[str]:
    """Why nobody is elected, and the last way out."""
    if found is None:
        return []
    if not found.missing:
        return [f"nobody can be elected: {found.problem}"]
    away = [key.node for key in found.missing]
    return [
        f"nobody can be elected: {found.problem}; start {', '.join(sorted(set(away)))}, or if lost "
        f"for good: {give_up_command(away)}"
    ]
