"""What would follow if nodes were lost, by the production rules: who leads, when, at what cost."""

from __future__ import annotations

import pytest
from plan_values import (
    FLOOR,
    NAMES,
    NOW,
    facts,
    key,
    late,
    lease,
    member,
    pos,
    primary,
    quiet_reports,
    reign,
    replace,
    report,
    sender,
    standby,
    sync,
)

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.ledger.levels import NEEDS
from pgherd.model.facts import Facts, Kind, Mode, Reign, Tags
from pgherd.model.ids import Lsn, NodeId, RaftId
from pgherd.model.observation import Heard, ServerSeen
from pgherd.plan import forecast, rehearsal
from pgherd.plan.rehearsal import Known, Rehearsal

N1, N2, N3 = NAMES
UNIX_MS = 1_700_000_000_000
ELECTION_MS = 1000
WAITS = FLOOR.detect_ms
LATEST = facts(level=max(NEEDS.values()))


def known(about: Facts, *reports: Heard, **changes: object) -> Known:
    """What n2 knows, which leads consensus: the quiet herd, with some reports exchanged."""
    made = Known(
        facts=about,
        reports=quiet_reports() | {each.report.node: each for each in reports},
        policy=FLOOR,
        now=NOW,
        unix_ms=UNIX_MS,
        raft_leader=N2,
        raft_voters=tuple(RaftId(n) for n in (1, 2, 3)),
    )
    return replace(made, **changes)


def rules(played: Rehearsal) -> list[int]:
    return [step.rule for step in played.steps]


def guess(seen: Known, played: Rehearsal, *, planned: bool = False) -> forecast.Forecast:
    return forecast.forecast(
        seen.facts, played, seen.policy, election_ms=ELECTION_MS, planned=planned
    )


def with_witness(*voters: int) -> Facts:
    """Two data members and a witness."""
    two = {NodeId(f"n{n}"): member(n) for n in (1, 2)}
    witness = member(3, kind=Kind.WITNESS, incarnation="")
    return facts(members={**two, N3: witness}, sync=sync(*voters))


def in_async(**changes: object) -> Known:
    """Mode async: n2 is a little behind, and n1's lease is the only bound."""
    held = lease(ttl_ms=5000, alone_at=4, renew_seq=3, flush_lsn=Lsn(4990))
    about = facts(mode=Mode.ASYNC, sync=sync(generation=4), lease=held)
    behind = report(2, standby(position=pos(3, 4800), receiver=None))
    further = report(3, standby(position=pos(3, 4900), receiver=None))
    return known(about, report(1, primary(about, names="")), behind, further, **changes)


# --- the primary is lost -------------------------------------------------------------------------


def test_the_next_primary_is_elected_by_the_rules_themselves() -> None:
    """Silence, an election, its establishment: and nothing but the detection is waited for."""
    seen = known(facts())
    played = rehearsal.if_lost(seen, [N1])
    assert (played.primary, rules(played), played.waited_ms) == (N2, [203, 305, 401], WAITS)
    assert rehearsal.rivals(seen, [N1], N2) == (N3,)
    assert played.steps[0].reason == "n1 is silent for n2 and n3"
    found = guess(seen, played)
    assert (found.expected_ms, found.measured) == (WAITS + forecast.ACTS_MS, 0)
    assert found.at_most_ms is not None
    assert found.at_most_ms > found.expected_ms
    assert (found.lost_bytes, found.loss) == (0, "no acknowledged commit")


def test_priority_decides_among_equals_and_wal_before_it() -> None:
    """A preferred one that lacks a little catches up first, as rule 310 has it."""
    first = member(3, tags=Tags(failover_priority=200))
    about = replace(LATEST, members={**LATEST.members, N3: first})
    assert rehearsal.if_lost(known(about), [N1]).primary == N3
    assert rehearsal.rivals(known(about), [N1], N3) == ()
    behind = report(3, standby(position=pos(3, 4000), receiver=None))
    played = rehearsal.if_lost(known(about, behind), [N1])
    assert (played.primary, rules(played)) == (N3, [203, 310, 305, 401])
    played = rehearsal.if_lost(known(LATEST, behind), [N1])
    assert (played.primary, rules(played)) == (N2, [203, 305, 401])


@pytest.mark.parametrize("change", [Tags(nofailover=True), Tags(delay_ms=60_000)])
def test_who_may_not_lead_is_not_elected(change: Tags) -> None:
    """Neither by preference nor for want of others."""
    about = facts(members={**facts().members, N2: member(2, tags=change)})
    assert rehearsal.if_lost(known(about), [N1]).primary == N3
    assert rehearsal.if_alone_able(known(about), [N1], N2).primary is None
    assert rehearsal.if_alone_able(known(about), [N1], N3).primary == N3


def test_one_that_leaves_can_when_nobody_else_can() -> None:
    """The rules prefer others, and have it stay where there are none."""
    about = facts(members={**facts().members, N2: member(2, leaving=True)})
    assert rehearsal.if_lost(known(about), [N1]).primary == N3
    assert rehearsal.if_alone_able(known(about), [N1], N2).primary == N2


def test_without_a_synchronous_copy_nobody_takes_over() -> None:
    """Degraded: the rules wait for the only one that may hold everything."""
    about = facts(sync=sync(generation=4))
    seen = known(about, report(1, primary(about, names="")))
    played = rehearsal.if_lost(seen, [N1])
    assert played.primary is None
    assert "only n1 may hold everything" in played.why
    assert guess(seen, played).expected_ms is None


def test_a_pause_and_a_policy_hold_it_back() -> None:
    """And say so in the rule's words."""
    paused, done = apply_command(LATEST, cmd.Pause("p1", "ann"), at_ms=1)
    assert isinstance(done, cmd.Done)
    assert "paused by ann" in rehearsal.if_lost(known(paused), [N1]).why
    manual = known(facts(), policy=replace(FLOOR, failover_enabled=False))
    played = rehearsal.if_lost(manual, [N1])
    assert (played.primary, played.why) == (None, "n1 is silent; failover is disabled")


def test_a_primary_suspected_lately_is_given_time() -> None:
    """The minimum interval is a part of the outage then."""
    before = reign(2, 1, pos(0, 500))
    lately: Reign = replace(
        reign(3, 1, pos(2, 1000), promoted=False), rule=203, began_at_ms=UNIX_MS - 10_000
    )
    played = rehearsal.if_lost(known(facts(history=(before, lately))), [N1])
    assert (played.primary, played.waited_ms) == (N2, FLOOR.minimum_interval_ms)


def test_mode_async_waits_for_the_lease_and_tells_the_loss() -> None:
    """The furthest leads; what is known that it lacks is counted."""
    seen = in_async()
    played = rehearsal.if_lost(seen, [N1])
    assert (played.primary, rules(played)) == (N3, [203, 901, 306, 401])
    assert played.waited_ms >= 5000
    found = guess(seen, played)
    assert found.lost_bytes == 5000 - 4900
    assert "mode async" in found.loss
    short = in_async(policy=replace(FLOOR, max_lag_bytes=50))
    refused = rehearsal.if_lost(short, [N1])
    assert refused.primary is None
    assert "failover.max_lag is 50" in refused.why


# --- others are lost, or several -----------------------------------------------------------------


def test_a_lost_replica_costs_nothing_while_another_is_left() -> None:
    """Commits need one copy of two."""
    played = rehearsal.if_lost(known(facts()), [N2])
    assert (played.primary, played.waited_ms, played.steps) == (N1, 0, ())


def test_the_last_replica_costs_the_sync_timeout() -> None:
    """With a witness there is a quorum to agree on doing without copies."""
    about = with_witness(2)
    seen = known(about, report(1, primary(about, senders=(sender(2),))), report(3, ServerSeen()))
    played = rehearsal.if_lost(seen, [N2])
    assert (played.primary, rules(played)) == (N1, [502])
    assert played.waited_ms == FLOOR.sync_timeout_ms
    strict = replace(seen, facts=replace(about, mode=Mode.STRICT))
    assert rehearsal.if_lost(strict, [N2]).primary is None


def test_who_streamed_from_a_lost_replica_comes_over() -> None:
    """Also mode strict goes on then: the only copy left is one of the primary's own."""
    fed = member(3, tags=Tags(replicatefrom="n2"))
    about = replace(LATEST, members={**LATEST.members, N3: fed}, sync=sync(2), mode=Mode.STRICT)
    reports = (
        report(1, primary(about, senders=(sender(2),))),
        report(3, standby(fed_at="h2:2")),
    )
    played = rehearsal.if_lost(known(about, *reports), [N2])
    assert (played.primary, rules(played)[0]) == (N1, 505)
    assert played.waited_ms >= WAITS
    late_one = (reports[0], late(reports[1]))
    assert rehearsal.if_lost(known(about, *late_one), [N2]).primary is None


@pytest.mark.parametrize("lost", [(N1, N2), (N2, N3), NAMES])
def test_without_a_quorum_nobody_is_elected(lost: tuple[NodeId, ...]) -> None:
    """Two of three: neither who is left of the replicas, nor a primary without its copies."""
    played = rehearsal.if_lost(known(facts()), lost)
    assert (played.primary, played.has_quorum) == (None, False)
    assert f"no quorum would be left ({3 - len(lost)} of 3 votes)" in played.why


def test_a_leader_of_consensus_that_died_a_moment_ago_decides_nothing() -> None:
    """Its report is old, and it is not alive for being remembered as leader."""
    quiet = quiet_reports()
    seen = known(facts(), late(quiet[N2]), raft_leader=N2)
    played = rehearsal.if_switched(seen, N2)
    assert played.primary == N1
    assert "n2 does not report" in played.why
    assert rehearsal.elector(seen, frozenset()) == N3


def test_a_node_that_is_cut_off_says_so() -> None:
    """What it does not hear may be well: that is no prediction for the others."""
    quiet = quiet_reports()
    played = rehearsal.if_lost(known(facts(), late(quiet[N1]), late(quiet[N3])), [N1])
    assert (played.primary, played.has_quorum) == (None, False)
    assert "1 of 3 votes are heard here now, and what others know is not known" in played.why


def test_without_a_quorum_a_primary_with_its_copies_goes_on() -> None:
    """n3 is silent already: with n4 and n5 gone as well, n1 still has n2."""
    five = {
        NodeId(f"n{n}"): member(n, kind=Kind.DATA if n < 4 else Kind.WITNESS) for n in range(1, 6)
    }
    about = facts(members=five)
    more = (report(4, ServerSeen()), report(5, ServerSeen()), late(report(3, standby())))
    seen = known(about, *more, raft_voters=tuple(RaftId(n) for n in range(1, 6)))
    played = rehearsal.if_lost(seen, [NodeId("n4"), NodeId("n5")])
    assert (played.primary, played.has_quorum) == (N1, False)
    assert "nobody could take over from it" in played.why
    alone = replace(about, sync=sync(generation=4))
    seen = replace(seen, facts=alone, reports={**seen.reports, N1: report(1, primary(alone))})
    played = rehearsal.if_lost(seen, [NodeId("n4"), NodeId("n5")])
    assert (played.primary, "until its lease ends" in played.why) == (None, True)


# --- a switchover --------------------------------------------------------------------------------


def test_a_switchover_holds_clients_and_loses_nothing() -> None:
    """As far as all programs understand it; the stall is what the acts take."""
    seen = known(LATEST)
    played = rehearsal.if_switched(seen, N3)
    assert (played.primary, rules(played)) == (N3, [610, 603, 301, 305, 401])
    found = guess(seen, played, planned=True)
    assert (found.expected_ms, found.loss) == (forecast.ACTS_MS, "no acknowledged commit")
    assert rules(rehearsal.if_switched(known(facts()), None)) == [603, 301, 305, 401]


def test_a_switchover_that_is_refused_changes_nothing() -> None:
    """By the ledger at once, or by rule 601."""
    played = rehearsal.if_switched(known(facts()), N1)
    assert (played.primary, played.why) == (N1, "n1 is the primary already")
    behind = report(1, primary(senders=(sender(3),)))
    played = rehearsal.if_switched(known(facts(), behind), N2)
    assert (played.primary, rules(played)) == (N1, [601])
    assert "n2 does not stream from the primary" in played.why


# --- what it takes -------------------------------------------------------------------------------


def test_the_expected_outage_is_made_of_what_was_measured() -> None:
    """The median of the cluster's own failovers; other changes tell nothing about them."""
    took = (300, 900, 700)
    first = reign(2, 1, pos(0, 500))
    past = [
        replace(
            reign(n, 1 + n % 2, pos(n - 1, 1000 * n)),
            rule=203 if n < 6 else 603,
            began_at_ms=UNIX_MS,
            established_at_ms=UNIX_MS + (took[n - 3] if n < 6 else 50_000),
        )
        for n in (3, 4, 5, 6)
    ]
    seen = known(facts(history=(first, *past)))
    assert forecast.durations(seen.facts, forecast.FAILOVER) == list(took)
    played = replace(rehearsal.if_lost(known(facts()), [N1]))
    found = forecast.forecast(seen.facts, played, FLOOR, election_ms=ELECTION_MS)
    assert (found.expected_ms, found.measured) == (WAITS + 700, 3)


def test_a_rehearsal_changes_nothing() -> None:
    """What was known stays as it was, and the same question has the same answer."""
    seen = known(facts())
    before = (seen.facts, dict(seen.reports))
    first = rehearsal.if_lost(seen, [N1])
    assert rehearsal.if_lost(seen, [N1]) == first
    assert (seen.facts, seen.reports) == before
    assert key(1) == seen.facts.leader
