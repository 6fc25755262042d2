"""Rule 308: an election in spite of members that an operator gave up for lost (PROTOCOL.md 7).

Whom the election needs is given up by name; everybody else who is needed has to be sealed. The
winner has most of what is left. It leads alone at first, as a degraded leader does: of what is on
others nobody knows whether it is all, so nobody else may lead before the set has returned. A lease
of who was given up has ended before: without voters its holder may run, and write alone till then.
"""

from __future__ import annotations

from pgherd.ledger.giving import loss_bytes, needed
from pgherd.model.facts import Facts, GivenUp
from pgherd.model.ids import MemberKey, Position, listed
from pgherd.plan.election import (
    elect,
    electing,
    from_above,
    grace_left,
    may_win,
    names,
    quorum_problem,
    unsealed_standbys,
    wanted_winner,
)
from pgherd.plan.leaseclock import running
from pgherd.plan.look import known_end, sealed
from pgherd.plan.rule import Decision, HerdRule, Situation


def missing(facts: Facts, done: dict[MemberKey, Position]) -> list[MemberKey]:
    """Who may hold what nobody else does, and is not sealed."""
    return sorted(needed(facts) - set(done))


def in_spite_of_loss(s: Situation) -> Decision | None:
    facts, order = s.facts, s.facts.given_up
    if not electing(s) or order is None or facts.handover is not None:
        return None
    done = sealed(s)
    if not quorum_problem(s, done) or from_above(s, done):
        return None
    away = missing(facts, done)
    forgotten = [key for key in away if key not in order.lost]
    if forgotten:
        return Decision(308, f"{names(forgotten)}: neither sealed nor given up for lost")
    waiting = unsealed_standbys(s)
    if waiting and grace_left(s):
        return Decision(308, f"waits for {names(waiting)} to seal")
    held = [lease.holder for lease in running(facts) if lease.holder in away]
    if held:
        return Decision(308, f"waits for the end of the lease of {names(held)}: it may run")
    return best_of_the_rest(s, done, away, order)


def best_of_the_rest(
    s: Situation, done: dict[MemberKey, Position], away: list[MemberKey], order: GivenUp
) -> Decision:
    if not done:
        return Decision(308, f"nobody is sealed who could lead without {names(away)}")
    target = max(done.values())
    wanted = wanted_winner(s, [key for key in done if done[key] >= target and may_win(s, key)])
    if wanted is None:
        return Decision(308, f"nobody who may lead has reached {target}, the most that is left")
    last = s.view.reports.get(s.facts.leader.node) if s.facts.leader is not None else None
    end = max(order.known_end, known_end(s.facts, last.report if last is not None else None))
    lost = loss_bytes(end, target.lsn)
    if order.accept_bytes is not None and (lost is None or lost > order.accept_bytes):
        much = "an unknown part" if lost is None else f"{lost} bytes"
        text = f"{much} of the WAL would be lost, {order.accept_bytes} bytes were accepted"
        return Decision(308, text)
    return elect(
        s,
        rule=308,
        winner=wanted,
        start=done[wanted],
        promoted=True,
        voters=(),
        k=0,
        reason=f"{wanted.node} has most of what is left without {listed(away)}: {target}",
        lost=tuple(away),
        known_end=end,
    )


RULES = (
    HerdRule(
        308,
        "Members that an operator gave up for lost are not waited for: who has most of the rest"
        " leads, alone at first.",
        in_spite_of_loss,
    ),
)
