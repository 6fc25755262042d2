"""Rules 901-903: when leases end and begin anew; and their renewal (PROTOCOL.md 9).

Only the Raft leader decides, and proposes only as the leader that it was then. A lease's end elects
nobody and, while there are voters, stops no write.
"""

from __future__ import annotations

from pgherd.ledger import commands as cmd
from pgherd.ledger.leases import reigns
from pgherd.model.facts import Facts, Mode, Phase
from pgherd.model.ids import MemberKey
from pgherd.model.lease import Lease, renew_ms
from pgherd.model.observation import Observation, Server
from pgherd.plan.leaseclock import running
from pgherd.plan.look import fresh, leader_report, lease_ttl
from pgherd.plan.rule import Decision, HerdRule, Situation


def end(lease: Lease, rule: int, reason: str) -> Decision:
    command = cmd.ExpireLease(id=lease.id, renew_seq=lease.renew_seq, rule=rule, reason=reason)
    return Decision(rule, reason, command)


def time_is_over(s: Situation) -> Decision | None:
    for lease in running(s.facts):
        if lease.mark in s.view.leases_over:
            seconds = lease.ttl_ms / 1000
            return end(lease, 901, f"{lease.holder.node} did not renew its lease for {seconds:g} s")
    return None


def given_up(s: Situation) -> Decision | None:
    """Who has promised a later term counts on no lease of an earlier one any more."""
    former = s.facts.lease.former if s.facts.lease is not None else None
    report = fresh(s, former.holder.node) if former is not None else None
    if former is None or report is None or report.promises.promise <= former.term:
        return None
    promised = report.promises.promise
    return end(former, 902, f"{former.holder.node} gave its lease up: it promised term {promised}")


def grant_again(s: Situation) -> Decision | None:
    """To who asks: a leader of an older program never does, and would lose it again."""
    facts, lease, report = s.facts, s.facts.lease, leader_report(s)
    if facts.phase is not Phase.STABLE or facts.leader is None or report is None:
        return None
    if lease is not None and lease.term == facts.term and not lease.expired:
        return None
    if report.server.state is not Server.PRIMARY or report.ask is None:
        return None
    reason = f"{facts.leader.node} still leads term {facts.term} and gets a new lease"
    command = cmd.GrantLease(
        term=facts.term,
        holder=facts.leader,
        expected=lease.id if lease is not None else 0,
        ttl_ms=lease_ttl(facts, s.policy),
        rule=903,
        reason=reason,
    )
    return Decision(903, reason, command)


def renewal(facts: Facts, report: Observation | None) -> cmd.RenewLease | None:
    """The renewal that the holder's newest report asks for, if one is due.

    No rule: it repeats every few seconds what an election decided. Due by the holder's own clock,
    and at once where mode async has to know that the holder writes alone.
    """
    lease = facts.lease
    if lease is None or report is None or report.ask is None or lease.expired:
        return None
    key = MemberKey(report.node, report.promises.incarnation)
    if key != lease.holder or lease.term != facts.term or not reigns(facts):
        return None
    last, ask, alone_at = lease.asked, report.ask, writes_alone(facts, report)
    early = last is not None and last.by == ask.by and ask.at - last.at < renew_ms(lease.ttl_ms)
    if early and alone_at <= lease.alone_at:
        return None
    position = report.server.position
    # A server that was restarted is behind what it has told of until it has replayed its WAL.
    end = lease.flush_lsn if position is None else max(position.lsn, lease.flush_lsn)
    return cmd.RenewLease(
        id=lease.id,
        term=lease.term,
        holder=lease.holder,
        ask=ask,
        flush_lsn=end,
        alone_at=alone_at,
    )


def writes_alone(facts: Facts, report: Observation) -> int:
    """The generation of the empty set that a leader works with in mode async; else 0."""
    server = report.server
    alone = facts.mode is Mode.ASYNC and server.state is Server.PRIMARY and not server.names
    return server.names_generation if alone else 0


ENDING = (
    HerdRule(901, "A lease that was not renewed expires when its time is over here.", time_is_over),
)
RULES = (
    HerdRule(902, "A former lease ends when its holder has promised a later term.", given_up),
    HerdRule(
        903,
        "A leader whose lease expired in its own term gets a new one when it is back.",
        grant_again,
    ),
)
