"""Who streams from whom: what may be wished, who counts, which slots feed, how it is undone."""

from __future__ import annotations

import pytest
from cascade_cases import FEED, GOES, HERE, N1, N2, N3, cascading, delayed, fed, n3, upstream
from plan_values import (
    NOW,
    TERM,
    electing,
    facts,
    look,
    member,
    myself,
    parked,
    pos,
    primary,
    promises,
    replace,
    report,
    sealed,
    sender,
    standby,
    sync,
)

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL, needed_level, sayable
from pgherd.model import action as act
from pgherd.model.facts import Facts, Forced, Switchover, Tags
from pgherd.model.ids import Instant, Lsn, NodeId, Term, slot_name
from pgherd.model.observation import Heard
from pgherd.model.remedy import Ladder
from pgherd.plan import herd, remedies, upstreams
from pgherd.plan import member as decider
from pgherd.plan.own import SlotsSeen
from pgherd.plan.rule import Decision
from pgherd.plan.truth import Standing, standing

WELL = report(2, standby(slots=HERE), promises(2, adopted=TERM, adopted_leader=N1))
BOTH = sync(2, 3)


def decide(known: Facts, *reports: Heard, **view: object) -> Decision:
    seen = look(known, *reports, **view)
    return herd.decide(known, view=seen.view, policy=seen.policy, now=seen.now)


def wishes(**named: str) -> Facts:
    """A herd in which these are to stream from those."""
    members = {
        NodeId(f"n{n}"): member(n, tags=Tags(replicatefrom=named.get(f"n{n}", "")))
        for n in (1, 2, 3)
    }
    return facts(members=members)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (wishes(n3="n2"), ""),
        (wishes(n3="n2", n2="n1"), ""),
        (wishes(n3="n9"), "n9 is no member: name one of n1, n2, or remove the key"),
        (wishes(n3="n3"), "in a circle (n3 -> n3): remove the key"),
        (wishes(n3="n2", n2="n3"), "in a circle (n3 -> n2 -> n3)"),
        (wishes(n3="n2", n2="n1", n1="n2"), ""),
    ],
)
def test_a_wish_that_cannot_be_is_refused_with_what_to_do(known: Facts, words: str) -> None:
    """Who only looks at a circle from outside is not in it."""
    said = upstreams.problem(known, N3)
    assert (words in said) if words else not said
    assert upstreams.wish(known, N3) == (None if words else N2)


def test_it_goes_to_the_upstreams_server_through_the_slot_of_this_term() -> None:
    action = decider.decide(n3(GOES, standby(), upstream())).action
    assert isinstance(action, act.Follow)
    assert (action.host, action.port, action.source, action.term) == ("h2", 2, N2, TERM)
    assert action.leader == GOES.leader, "its reign is what it adopts, whoever hands it on"


def test_it_comes_back_to_the_primary_and_says_why() -> None:
    planned = decider.decide(n3(GOES, fed()))
    assert isinstance(planned.action, act.Follow)
    assert (planned.action.host, planned.action.source) == ("h1", None)
    assert planned.reason == "streams from n1: n2 is silent"
    waits = decider.decide(n3(GOES, standby()))
    assert waits.reason == "follows n1 in term 3, streams from n1: n2 is silent"


@pytest.mark.parametrize(
    "above",
    [
        upstream(standby(slots=HERE, upstream_term=Term(2))),
        upstream(standby(slots=HERE), promises=promises(2, adopted=Term(2), adopted_leader=N1)),
        upstream(
            standby(slots=HERE),
            promises=promises(2, adopted=TERM, adopted_leader=N1, promise=Term(4)),
        ),
        upstream(standby(slots=HERE), promises=promises(7, adopted=TERM, adopted_leader=N1)),
        upstream(standby(slots=HERE, healthy=False)),
    ],
    ids=["of an earlier term", "adopted another", "promised a later term", "other copy", "ill"],
)
def test_nobody_takes_wal_from_who_is_not_of_this_term(above: object) -> None:
    """The seal: what comes through another replica is of the reign that was adopted, or nothing."""
    planned = decider.decide(n3(GOES, standby(), above))  # type: ignore[arg-type] # an Observation
    assert planned.action is None, planned.reason


def test_who_streams_from_a_replica_is_no_synchronous_copy() -> None:
    """It leaves the set in its order; where its upstream is not well, it may be in it."""
    out = decide(cascading(sync=BOTH), WELL)
    assert out.rule == 506, out
    assert isinstance(out.command, cmd.ChangeSync)
    assert [one.node for one in out.command.names] == ["n2"]
    assert decide(cascading(), WELL).rule == 900, "and does not come back in"
    ill = report(2, standby(receiver=None), WELL.report.promises)
    assert decide(cascading(sync=BOTH), ill).rule == 900
    alone = decide(cascading(), ill, report(1, primary(cascading(), senders=(sender(3),))))
    assert (alone.rule, alone.reason) == (505, "n3 joins the sync set")


def test_a_delayed_replica_is_no_synchronous_copy() -> None:
    out = decide(delayed(sync=BOTH))
    assert out.rule == 506, out
    assert decide(delayed()).rule == 900


def test_a_switchover_to_a_cascading_replica_waits_until_it_is_at_the_primary() -> None:
    wish = Switchover(id="s1", candidate=N3, requested_by="ann", requested_at_ms=NOW)
    known = cascading(switchover=wish)
    seen = primary(known, senders=(sender(2),))
    there = report(3, fed(), promises(3, adopted=TERM, adopted_leader=N1))
    waits = decide(known, WELL, there, report(1, seen))
    assert (waits.rule, waits.command) == (601, None)
    assert "until n3 streams from the primary" in waits.reason
    late = decide(known, WELL, there, report(1, seen), unix_ms=NOW + 20_000)
    assert isinstance(late.command, cmd.EndSwitchover)


def election(known: Facts, *, end3: int) -> Decision:
    """n1 is gone; n2 is sealed at 3:5000, n3 elsewhere."""
    two = report(2, parked(pos(3, 5000)), sealed(2, pos(3, 5000)))
    three = report(3, parked(pos(3, end3)), sealed(3, pos(3, end3)))
    gone = Heard(report(1, primary()).report, Instant(NOW - 60_000))
    return decide(known, two, three, gone, phase_since=Instant(NOW - 2_000))


def of(made: Facts, **changes: object) -> Facts:
    """The election after a herd's third term."""
    asked = replace(electing(), members=made.members, sync=made.sync)
    return replace(asked, **changes)


def test_a_delayed_replica_is_not_elected_unless_it_is_named() -> None:
    """It has everything, and still the others lead, or nobody; a forced failover may name it."""
    known = of(delayed(sync=BOTH))
    won = election(known, end3=5000)
    assert isinstance(won.command, cmd.Elect)
    assert won.command.winner.node == "n2"
    assert won.command.k == 0, "and no commit waits for it"
    ahead = election(known, end3=6000)
    assert not isinstance(ahead.command, cmd.Elect)
    forced = replace(known, forced=Forced(id="f1", candidate=N3, requested_by="ann"))
    named = election(forced, end3=6000)
    assert isinstance(named.command, cmd.Elect)
    assert named.command.winner.node == "n3"


def test_what_a_cascading_replica_has_beyond_all_voters_is_not_elected() -> None:
    """It came through a standby that does not have it any more, or was promoted by somebody."""
    known = of(cascading())
    ahead = election(known, end3=6000)
    assert isinstance(ahead.command, cmd.Elect)
    assert (ahead.command.winner.node, ahead.command.start) == ("n2", pos(3, 5000))
    barred = {**known.members, N2: member(2, tags=Tags(nofailover=True))}
    equal = election(replace(known, members=barred), end3=5000)
    assert isinstance(equal.command, cmd.Elect)
    assert equal.command.winner.node == "n3", "at the target it is as good as any"
    assert not isinstance(election(replace(known, members=barred), end3=6000).command, cmd.Elect)


def test_an_election_does_not_wait_for_a_delayed_replica_to_replay() -> None:
    """Unsealed it may be for an hour; a cascading one is waited for like any other."""
    two = report(2, parked(pos(3, 5000)), sealed(2, pos(3, 5000)))
    gone = Heard(report(1, primary()).report, Instant(NOW - 60_000))
    begun = Instant(NOW - 100)
    busy = report(3, standby(delay_ms=1000))
    known = of(delayed())
    assert isinstance(decide(known, two, busy, gone, phase_since=begun).command, cmd.Elect)
    other = of(cascading())
    waits = decide(other, two, report(3, fed()), gone, phase_since=begun)
    assert (waits.rule, waits.command) == (305, None)


def test_who_will_cascade_again_is_in_the_first_set_only_where_nobody_else_is() -> None:
    """Its upstream won: it streams from the primary then, and is what there is."""
    known = of(cascading())
    won = election(known, end3=5000)
    assert isinstance(won.command, cmd.Elect)
    assert won.command.k == 1
    members = {**known.members, NodeId("n4"): member(4)}
    four = report(4, parked(pos(3, 5000)), sealed(4, pos(3, 5000)))
    three = report(3, parked(pos(3, 4000)), sealed(3, pos(3, 4000)))
    two = report(2, parked(pos(3, 5000)), sealed(2, pos(3, 5000)))
    first = {**members, NodeId("n4"): member(4, tags=Tags(failover_priority=200))}
    gone = Heard(report(1, primary()).report, Instant(NOW - 60_000))
    chosen = decide(replace(known, members=first), two, three, four, gone)
    assert isinstance(chosen.command, cmd.Elect)
    assert chosen.command.winner.node == "n4"
    assert [one.node for one in chosen.command.voters] == ["n1", "n2"]


def test_an_upstream_keeps_a_slot_per_term_and_an_heir_as_ever() -> None:
    """The slot says the term; it goes with the wish, and an upstream that may not lead has it."""
    plan = decider.decide(myself(GOES, standby(slots=HERE[:2]), me=2))
    assert isinstance(plan.action, act.KeepSlots), plan
    assert plan.action.feeds == (FEED,)
    assert decider.decide(myself(GOES, standby(slots=HERE), me=2)).rule == 59
    gone = decider.decide(myself(facts(sync=sync(2)), standby(slots=HERE, slots_in_use=()), me=2))
    assert isinstance(gone.action, act.KeepSlots)
    assert gone.action.feeds == ()
    barred = {**GOES.members, N2: member(2, tags=Tags(nofailover=True))}
    plan = decider.decide(myself(replace(GOES, members=barred), standby(slots=()), me=2))
    assert isinstance(plan.action, act.KeepSlots)
    assert (plan.action.nodes, plan.action.feeds) == ((), (FEED,))
    before = decider.decide(myself(GOES, standby(slots=HERE[:2], upstream_term=Term(2)), me=2))
    assert not isinstance(before.action, act.KeepSlots), "not before it is of this term itself"


def test_the_primary_moves_the_slot_that_a_cascading_member_does_not_read() -> None:
    from pgherd.model.slots import SlotKind, SlotSeen

    there = (SlotSeen(slot_name(N3), SlotKind.PHYSICAL, lsn=Lsn(1)),)
    server = primary(GOES, replication_slots=there)
    at = SlotsSeen(heard=frozenset({N2, N3}), at={N3: Lsn(1 << 30)})
    plan = decider.decide(myself(GOES, server, slots=at))
    assert isinstance(plan.action, act.KeepSlots), plan
    assert plan.action.advance == ((slot_name(N3), Lsn(1 << 30)),)
    near = replace(at, at={N3: Lsn(1 << 20)})
    assert decider.decide(myself(GOES, server, slots=near)).action is None


def test_streams_by_the_word_of_whoever_feeds_it_up_to_the_primary() -> None:
    """A chain is as good as its first link."""
    reports = {
        N1: report(1, primary(senders=(sender(2),))).report,
        N2: upstream(),
        N3: report(3, fed(), promises(3, adopted=TERM, adopted_leader=N1)).report,
    }
    assert upstreams.streams(GOES, reports, GOES.members[N3].key)
    cut = {**reports, N1: report(1, primary(senders=())).report}
    assert not upstreams.streams(GOES, cut, GOES.members[N3].key)
    assert not upstreams.streams(GOES, {N1: reports[N1]}, GOES.members[N3].key)


def test_patience_grows_with_every_return_and_ends_with_a_long_stay() -> None:
    patience = upstreams.Patience(Instant(0))
    assert not patience.look(None, now=Instant(2_999))
    assert patience.look(None, now=Instant(3_000))
    assert not patience.look(N2, now=Instant(3_000))
    assert not patience.look(None, now=Instant(4_000)), "came back soon"
    assert not patience.look(None, now=Instant(9_999))
    assert patience.look(None, now=Instant(10_000))
    patience.look(N2, now=Instant(10_000))
    patience.look(None, now=Instant(100_000))
    assert patience.look(None, now=Instant(103_000)), "it had lasted"


def test_a_delayed_replica_is_delayed_not_stuck() -> None:
    """Its lag is what its operator wants, and nothing is repaired for it."""
    known, late = delayed(), standby(delay_ms=3_600_000, delays=True, receiver=None)
    own = report(3, late, promises(3, adopted=TERM, adopted_leader=N1)).report
    said = standing(known, known.members[N3], own, report(1, primary()).report)
    assert said == (Standing.DELAYED, "replays what is older than 3600 s")
    long = Ladder(received_ms=600_000, replayed_ms=600_000)
    look = n3(known, late, ladder=long, following_since=Instant(0))
    assert decider.decide(look).action is None
    assert remedies.stuck(look) == ""
    paused = n3(known, standby(delay_ms=3_600_000), ladder=replace(long, received_ms=0))
    assert remedies.stuck(paused) == ""


def test_an_older_ledger_is_told_no_tag_that_it_does_not_know() -> None:
    tags = Tags(zone="a", replicatefrom="n2", delay_ms=5)
    told = cmd.UpdateMember(N3, member(3).kind, member(3).address, tags, LEVEL)
    assert needed_level(told) == 7
    assert sayable(tags, 6) == Tags(zone="a")
    assert sayable(tags, 7) == tags
    assert needed_level(replace(told, tags=sayable(tags, 6))) == 1
