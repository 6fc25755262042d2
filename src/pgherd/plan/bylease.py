"""Rules 306-307: an election in mode async without the old primary (PROTOCOL.md F3 and 8).

The clock counts here, and only here: an expired lease says that its holder has stopped to write
(rule 71), where the ledger knows that it wrote alone. What it wrote last may be on no other disk;
how much of that a failover may give up is the operator's (`failover.max_lag`), and it is recorded.
Degraded mode quorum is not async: there nothing may be given up.
"""

from __future__ import annotations

from pgherd.ledger.lineage import contains
from pgherd.model.facts import Facts, Mode
from pgherd.model.ids import Lsn, MemberKey, Position
from pgherd.model.observation import Server
from pgherd.plan.election import (
    elect,
    electing,
    from_above,
    grace_left,
    may_win,
    names,
    unsealed_standbys,
    wanted_winner,
)
from pgherd.plan.look import leader_report, sealed
from pgherd.plan.rule import Decision, HerdRule, Situation

COMING_UP = (Server.STOPPED, Server.STARTING, Server.STANDBY, Server.HUNG)
"""States in which the old primary's agent is about to seal it, which loses nothing."""


def lease_is_over(facts: Facts) -> bool:
    """Whether nobody can count on being the primary any more, by the ledger's word."""
    lease = facts.lease
    return lease is not None and lease.expired and lease.former is None


def wrote_alone(facts: Facts) -> bool:
    """Whether the lease bounded what the old primary acknowledged.

    Not while standbys may have acknowledged it under a set: of before the mode was async, or of one
    that was to end it. A reign that was not established has acknowledged nothing.
    """
    lease, reign = facts.lease, facts.reign()
    if lease is None or reign is None or facts.sync.voters or facts.sync.names:
        return False
    return not reign.established or lease.alone_at == facts.sync.generation


def by_lease(s: Situation) -> bool:
    """Whether this election may do without the old primary, for its lease is over.

    One that is sealed has everything, unless the operator never wants it restarted in place.
    """
    facts = s.facts
    if not electing(s) or facts.mode is not Mode.ASYNC or facts.handover is not None:
        return False
    done = sealed(s)
    if s.policy.restart_in_place and facts.leader in done:
        return False
    if from_above(s, done):
        return False  # rule 304 says so
    return lease_is_over(facts) and wrote_alone(facts)


def told_end(facts: Facts) -> Lsn | None:
    """How far the old primary's WAL reached when the ledger last heard of it; None if it did not.

    A reign that was not established has acknowledged nothing beyond what it began with.
    """
    lease, reign = facts.lease, facts.reign()
    if reign is None:
        return None
    if not reign.established:
        return reign.start.lsn
    known = lease is not None and lease.term == reign.term and lease.renew_seq > 0
    return lease.flush_lsn if known and lease is not None else None


def comparable(s: Situation) -> dict[MemberKey, Position]:
    """The sealed members whose WAL is a part of the old primary's, or of its predecessor's."""
    history = s.facts.history
    before = history if not history or history[-1].established else history[:-1]
    return {
        key: position
        for key, position in sealed(s).items()
        if contains(history, position) or contains(before, position)
    }


def comes_up(s: Situation) -> Decision | None:
    """Its disk has everything: worth as long a wait as any start."""
    report = leader_report(s)
    if not by_lease(s) or report is None or report.server.state not in COMING_UP:
        return None
    if not s.policy.restart_in_place:
        return None
    if s.now - s.view.phase_since >= s.policy.start_timeout_ms:
        return None
    return Decision(307, f"{report.node} has everything and comes up: waits until it is sealed")


def without_the_old(
    s: Situation,
) -> tuple[dict[MemberKey, Position], Position | None, list[MemberKey]]:
    """Who can be compared, the most that they have, and who has it and may lead."""
    done = {key: position for key, position in comparable(s).items() if key != s.facts.leader}
    target = max(done.values(), default=None)
    return done, target, [key for key in done if done[key] == target and may_win(s, key)]


def choose(s: Situation) -> Decision | None:
    """F4 without the old primary: who has most of its WAL, unless that is too little."""
    if not by_lease(s):
        return None
    waiting = unsealed_standbys(s)
    if waiting and grace_left(s):
        return Decision(306, f"waits for {names(waiting)} to seal")
    _, target, able = without_the_old(s)
    winner = wanted_winner(s, able)
    if target is None or winner is None:
        return Decision(306, f"nobody who may lead has reached {target or 'any known position'}")
    lag, problem = lag_of(s, winner, target)
    if problem:
        return Decision(306, problem)
    old = s.facts.leader.node if s.facts.leader is not None else "the old primary"
    reason = (
        f"{winner.node} has most, up to {target}; the lease of {old} is over, {lag} bytes that "
        f"{old} told of may be lost, and what it wrote after"
    )
    return elect(
        s,
        rule=306,
        winner=winner,
        start=target,
        promoted=True,
        voters=(),
        k=0,
        reason=reason,
        lost_bytes=lag,
    )


def lag_of(s: Situation, winner: MemberKey, position: Position) -> tuple[int, str]:
    """How much of the WAL that the ledger knew of a winner lacks, and why that is too much."""
    end, most = told_end(s.facts), s.policy.max_lag_bytes
    frozen = sealed(s).get(s.facts.leader) if s.facts.leader is not None else None
    if frozen is not None:
        end = max(end or Lsn(0), frozen.lsn)
    if end is None:
        why = "the old primary died before the ledger knew how far it was"
        return 0, f"how far {winner.node} is behind is not known, {why}: bring that one back"
    lag = max(0, end - position.lsn)
    if lag <= most:
        return lag, ""
    text = f"{winner.node} is {lag} bytes behind the old primary, failover.max_lag is {most}"
    return lag, f"{text}: bring the old primary back, or raise failover.max_lag on every node"


WAITS = (
    HerdRule(
        307,
        "In mode async a failover waits for an old primary that is heard and comes up.",
        comes_up,
    ),
)
RULES = (
    HerdRule(
        306,
        "In mode async an expired lease suffices, for a winner within max_lag of the old primary.",
        choose,
    ),
)
