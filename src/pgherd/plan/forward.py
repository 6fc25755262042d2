"""Rule 310: a candidate that is behind catches up within the election (PROTOCOL.md F4).

Only a member at the greatest sealed position may lead. Where none of those may, or one that is
preferred lacks little, it takes the rest from a sealed holder. Owns who takes from whom, and for
how long that is hoped for. Leaves the doing to `borrowing`, the choice of the winner to `election`.
"""

from __future__ import annotations

from typing import NamedTuple

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import NEEDS
from pgherd.ledger.lineage import contains
from pgherd.model.facts import FastForward, Reign
from pgherd.model.ids import MemberKey, Position
from pgherd.plan.bylease import by_lease, lag_of, without_the_old
from pgherd.plan.election import (
    asked_for,
    complete,
    electing,
    grace_left,
    may_win,
    quorum_problem,
    rank,
    unsealed_standbys,
    wanted_winner,
)
from pgherd.plan.look import able_to_run, fresh, is_full, sealed
from pgherd.plan.rule import Decision, HerdRule, Situation

PREFERRED_WITHIN_MS = 2500
"""Of an election: after that a preferred member that is still behind is passed over."""
TURN_MS = 10_000
"""How long each has to catch up where nobody else may lead, before it is another's turn."""


def catch_up(s: Situation) -> Decision | None:
    facts = s.facts
    if not electing(s) or facts.handover is not None or facts.level < NEEDS[cmd.FastForward]:
        return None
    if facts.forward is not None and is_under_way(s, facts.forward):
        return Decision(310, told(facts.forward))
    field = compared(s)
    grant = wanted_grant(s, field) if field is not None else None
    if field is None or grant is None:
        return None
    if grant == facts.forward:
        return Decision(310, told(grant))
    command = cmd.FastForward(
        term=facts.term,
        elector=s.view.me,
        candidate=grant.candidate,
        holder=grant.holder,
        target=grant.target,
        rule=310,
        reason=f"{told(grant)}, and is at {field.done[grant.candidate]}",
    )
    return Decision(310, command.reason, command)


class Compared(NamedTuple):
    """Who is sealed and counts, the most that they have, and who has it and may lead."""

    done: dict[MemberKey, Position]
    target: Position
    able: list[MemberKey]


def compared(s: Situation) -> Compared | None:
    """The election as it would be decided now; None while it cannot be."""
    if unsealed_standbys(s) and grace_left(s):
        return None
    if by_lease(s):
        done, target, able = without_the_old(s)
        if target is None or any(lag_of(s, key, target)[1] for key in done):
            return None
        return Compared(done, target, able)
    return None if quorum_problem(s, sealed(s)) else Compared(*complete(s))


def told(grant: FastForward) -> str:
    """A grant in words."""
    return f"{grant.candidate.node} catches up from {grant.holder.node} to {grant.target}"


def is_under_way(s: Situation, grant: FastForward) -> bool:
    """Whether the candidate has taken its seal back for this, and it is worth waiting for it."""
    done, report = sealed(s), fresh(s, grant.candidate.node)
    if report is None or grant.candidate in done:
        return False
    promised = report.promises.promise, report.promises.promise_elector
    if promised != (s.facts.term, s.facts.elector):
        return False
    if report.promises.incarnation != grant.candidate.incarnation:
        return False
    if grant.holder not in at_target(s, done, grant.target):
        return False
    able = [key for key in done if done[key] >= grant.target and may_win(s, key)]
    return not able or is_early(s)


def is_early(s: Situation) -> bool:
    return s.now - s.view.phase_since < PREFERRED_WITHIN_MS


def at_target(s: Situation, done: dict[MemberKey, Position], target: Position) -> list[MemberKey]:
    """Who can lend: sealed at the very target, and running."""
    return sorted(key for key in done if done[key] == target and able_to_run(s, key))


def wanted_grant(s: Situation, field: Compared) -> FastForward | None:
    """Who should take from whom now, of those who are sealed."""
    done, target, able = field
    holders = at_target(s, done, target)
    behind = [key for key in done if may_catch_up(s, key, done[key], target)]
    if not holders or not behind:
        return None
    winner = wanted_winner(s, able)
    if winner is None:
        by_turns = sorted(behind, key=lambda key: (is_full(s, key.node), rank(s, key)))
        turn = (s.now - s.view.phase_since) // TURN_MS
        return FastForward(by_turns[turn % len(by_turns)], holders[0], target)
    near = [key for key in behind if target.lsn - done[key].lsn <= s.policy.admission_lag_bytes]
    best = min(near, key=lambda key: (preference(s, key), key), default=None)
    if best is None or not is_early(s) or preference(s, best) >= preference(s, winner):
        return None
    return FastForward(best, holders[0], target)


def may_catch_up(s: Situation, key: MemberKey, position: Position, target: Position) -> bool:
    """Whether a member may lead once it is at the target, which its WAL is a part of."""
    asked = asked_for(s)
    behind = position < target and is_part(s.facts.history, position, target)
    return behind and asked in (None, key.node) and may_win(s, key)


def is_part(history: tuple[Reign, ...], position: Position, target: Position) -> bool:
    """Whether WAL up to a position is a prefix of that up to a later one, for all that is known.

    Within one epoch it is: only one primary wrote that. Else both lie on the newest history.
    """
    if not any(reign.term == target.epoch for reign in history):
        return False
    one = position.epoch == target.epoch
    return one or (contains(history, position) and contains(history, target))


def preference(s: Situation, key: MemberKey) -> tuple[bool, bool, int]:
    """What is worth a wait: room on the disk, that it stays, its priority; the least is best."""
    member = s.facts.members[key.node]
    return is_full(s, key.node), member.leaving, -member.tags.failover_priority


RULES = (
    HerdRule(
        310,
        "Who may lead and is behind catches up from a sealed holder, where nobody else may lead"
        " or it is preferred and near.",
        catch_up,
    ),
)
