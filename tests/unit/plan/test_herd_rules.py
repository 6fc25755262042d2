"""Every rule of the herd decider, as a table: what is seen, which rule decides, and to do what."""

from __future__ import annotations

from typing import NamedTuple

import config_cases
import password_cases
import pytest
import slot_cases
from forward_cases import HERD_CASES
from mode_cases import MODE_CASES
from plan_values import (
    CLOSED,
    NOW,
    SYSTEM,
    TERM,
    electing,
    establishing,
    facts,
    key,
    late,
    lease,
    look,
    member,
    parked,
    pos,
    primary,
    promises,
    reign,
    replace,
    report,
    sealed,
    sender,
    standby,
    sync,
    unborn,
)
from standby_cases import HERD_STANDBY
from upkeep_cases import HERD_UPKEEP

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.ledger.levels import NEEDS
from pgherd.model.branch import Fork
from pgherd.model.facts import (
    Forced,
    Frozen,
    GivenUp,
    Handover,
    Kind,
    Mode,
    Phase,
    Switchover,
    SyncUse,
    Tags,
)
from pgherd.model.ids import Instant, Lsn, NodeId, RaftId, Term, Timeline
from pgherd.model.lease import Ask
from pgherd.model.observation import Asking, Heard, Receiver, Server, ServerSeen
from pgherd.model.policy import Policy
from pgherd.plan import herd, readmission, suspicion
from pgherd.plan.look import sealed as sealed_members
from pgherd.plan.rule import Membership, Situation


class Case(NamedTuple):
    """rule: which must decide · does: the command's type, a verb of membership, or None to wait."""

    story: str
    rule: int
    does: object
    seen: Situation


EMPTY = ServerSeen()
WISH = Switchover(id="s1", candidate=NodeId("n2"), requested_by="ann", requested_at_ms=0)
HELD = replace(WISH, held=True)
HOLDS = NEEDS[cmd.Hold]
NEW_WISH = replace(WISH, requested_at_ms=NOW - 1000)
ORDER = Forced(id="f1", candidate=None, requested_by="ann")
ASKS1 = report(1, primary(), ask=Ask("b", Instant(7)))
FORMER = lease(2, term=Term(2), renew_seq=7)
HANDOVER = Handover(switchover="s1", candidate=NodeId("n2"))
READY = primary(checkpointed_for="s1")
STOPPED = ServerSeen(state=Server.STOPPED, system_id=SYSTEM)
SEAL2 = report(2, parked(pos(3, 5000)), sealed(2, pos(3, 5000)))
SEAL3 = report(3, parked(pos(3, 4000)), sealed(3, pos(3, 4000)))
DEAD1 = late(report(1, STOPPED))
CLOSED1 = report(1, primary(names=CLOSED), promises(1, promise=Term(4)))
UNSEALED3 = report(3, standby())
ALONE = primary(senders=())
HALF = sync(2, 3, names=(key(2),), generation=5, in_use=(SyncUse(4, (key(2), key(3)), 1),))
OUTLIVED = sync(names=(key(2, "old"),), names_k=1, generation=5, in_use=(SyncUse(4, (), 0),))
WERE = (key(2, "old"), key(3))
GONE = replace(HALF, voters=WERE, names=(key(3),), in_use=(SyncUse(4, WERE, 1),))
OVER = lease(expired=True)
LOST = GivenUp(
    id="g1", lost=(key(1), key(3)), candidate=None, requested_by="ann", known_end=Lsn(5600)
)
FIVE = {NodeId(f"n{n}"): member(n) for n in range(1, 6)}
FIVE_QUIET = tuple(report(n, standby()) for n in (4, 5))


def full(heard: Heard) -> Heard:
    """The same report from a node with a full disk."""
    return replace(heard, report=replace(heard.report, disk_free_bytes=1 << 20))


def quiet(heard: Heard) -> Heard:
    """The same report, at whose proxies nothing runs any more."""
    return replace(heard, report=replace(heard.report, quiet=HELD.id))


def joined(**changes: object) -> Situation:
    """n4 is a member of the ledger; consensus does not know it."""
    four = {**facts().members, NodeId("n4"): member(4, kind=Kind.WITNESS, **changes)}
    return look(facts(members=four), report(4, EMPTY))


def four_of_three(*voters: RaftId) -> Situation:
    """Three of four members vote; n3 has been silent for long, and n4 could."""
    four = {**facts().members, NodeId("n4"): member(4, kind=Kind.WITNESS)}
    known = facts(members=four, sync=sync(2), max_voters=3)
    lost = late(report(3, standby()), 400_000)
    ids = tuple(RaftId(n) for n in (1, 2, 3, 4))
    return look(
        known,
        report(1, primary(senders=(sender(2),))),
        lost,
        report(4, EMPTY),
        raft_voters=voters,
        raft_learners=tuple(one for one in ids if one not in voters),
        caught_up=ids,
    )


FORGOT = {NodeId("n1"): Asking("s9", RaftId(1))}

CASES = (
    Case(
        "an empty herd",
        101,
        cmd.ChooseFounder,
        look(unborn(), *(report(n, EMPTY) for n in (1, 2, 3))),
    ),
    Case("a directory is there already", 101, None, look(unborn())),
    Case(
        "the founder is done",
        102,
        cmd.Born,
        look(unborn(founder=NodeId("n1")), report(1, STOPPED)),
    ),
    Case(
        "the founder has a directory and no incarnation yet",
        102,
        None,
        look(unborn(founder=NodeId("n1")), report(1, STOPPED, promises(1, incarnation=""))),
    ),
    Case("born", 103, cmd.Begin, look(unborn(founder=NodeId("n1"), system_id=SYSTEM))),
    Case(
        "data of an earlier cluster",
        107,
        cmd.Begin,
        look(
            electing(history=(), level=6), report(1, parked(pos(57, 5000)), sealed(1, pos(57, 9)))
        ),
    ),
    Case(
        "data of an earlier cluster, and a program that cannot say so",
        107,
        None,
        look(electing(history=(), level=5), report(1, primary(position=pos(57, 5000)))),
    ),
    Case("an operator's order", 201, cmd.Begin, look(facts(forced=ORDER))),
    Case("the postmaster died", 202, cmd.Begin, look(facts(), report(1, STOPPED))),
    Case(
        "the primary hangs",
        202,
        cmd.Begin,
        look(facts(), report(1, replace(STOPPED, state=Server.HUNG))),
    ),
    Case(
        "the primary came back as a standby",
        202,
        cmd.Begin,
        look(facts(), report(1, parked(pos(3, 5000)))),
    ),
    Case(
        "the winner promoted, crashed and is a standby again",
        202,
        cmd.Begin,
        look(establishing(), report(2, parked(pos(4, 5300)))),
    ),
    Case(
        "the winner is about to promote",
        402,
        None,
        look(establishing(), SEAL2, phase_since=Instant(NOW - 100)),
    ),
    Case(
        "the winner fences, which may take longer than a promotion",
        402,
        None,
        look(
            establishing(unsealed=(key(1),)),
            replace(SEAL2, report=replace(SEAL2.report, fencing=True)),
        ),
    ),
    Case(
        "the winner fences for ever",
        402,
        cmd.Begin,
        look(
            establishing(unsealed=(key(1),)),
            replace(SEAL2, report=replace(SEAL2.report, fencing=True)),
            phase_since=Instant(NOW - 300_000),
        ),
    ),
    Case(
        "the winner's hook runs before its promotion",
        402,
        None,
        look(establishing(), replace(SEAL2, report=replace(SEAL2.report, fencing=True))),
    ),
    Case(
        "the winner's hook has refused its promotion, so another one is elected at once",
        402,
        cmd.Begin,
        look(
            establishing(),
            replace(SEAL2, report=replace(SEAL2.report, ineligible="its hook refused")),
            phase_since=Instant(NOW - 100),
        ),
    ),
    Case(
        "two have not heard the leader",
        203,
        cmd.Begin,
        look(
            facts(), late(report(1, primary())), report(3, standby(), heard_ms={NodeId("n1"): 9000})
        ),
    ),
    Case("only one has not heard the leader", 203, None, look(facts(), late(report(1, primary())))),
    Case("the elector is gone", 204, cmd.Begin, look(electing(elector=NodeId("n3")))),
    Case(
        "the old leader has drained",
        301,
        cmd.Drained,
        look(electing(handover=HANDOVER), report(1, STOPPED, sealed(1, pos(3, 5100)))),
    ),
    Case("a switchover takes too long", 302, cmd.Begin, look(electing(handover=HANDOVER))),
    Case(
        "the old leader falls silent while it drains",
        302,
        cmd.Begin,
        look(electing(handover=HANDOVER), DEAD1, phase_since=NOW),
    ),
    Case("a false alarm", 303, cmd.Elect, look(electing(), CLOSED1, SEAL2, SEAL3)),
    Case(
        "a false alarm, one not sealed yet",
        303,
        None,
        look(electing(), CLOSED1, SEAL2, UNSEALED3, phase_since=NOW),
    ),
    Case(
        "the missing ones are given up for lost",
        308,
        cmd.Elect,
        look(electing(given_up=LOST, level=2, lease=OVER), DEAD1, SEAL2, late(UNSEALED3)),
    ),
    Case(
        "the lease of a leader that was given up has not ended",
        308,
        None,
        look(electing(given_up=LOST, level=2), DEAD1, SEAL2, late(UNSEALED3)),
    ),
    Case(
        "one of the missing is given up, the other is not",
        308,
        None,
        look(electing(given_up=replace(LOST, lost=(key(3),))), DEAD1, SEAL2, late(UNSEALED3)),
    ),
    Case(
        "more is lost than was accepted",
        308,
        None,
        look(
            electing(given_up=replace(LOST, accept_bytes=599), lease=OVER),
            DEAD1,
            SEAL2,
            late(UNSEALED3),
        ),
    ),
    Case(
        "it is not known how much is lost, and not everything was accepted",
        308,
        None,
        look(
            electing(given_up=replace(LOST, accept_bytes=1 << 30, known_end=Lsn(0)), lease=OVER),
            DEAD1,
            SEAL2,
            late(UNSEALED3),
        ),
    ),
    Case(
        "members are given up, and enough of the others are sealed after all",
        305,
        cmd.Elect,
        look(electing(given_up=LOST), DEAD1, SEAL2, SEAL3),
    ),
    Case(
        "the old leader's disk is full, and so is that of whoever could follow",
        309,
        None,
        look(electing(), full(report(1, STOPPED)), full(SEAL2), SEAL3, phase_since=Instant(0)),
    ),
    Case(
        "a full disk, and an operator who wants it",
        305,
        cmd.Elect,
        look(
            electing(forced=replace(ORDER, candidate=NodeId("n2"))),
            full(report(1, STOPPED)),
            full(SEAL2),
            SEAL3,
            phase_since=Instant(NOW - 2000),
        ),
    ),
    Case("too few sealed", 304, None, look(electing(), DEAD1, SEAL2, UNSEALED3)),
    Case(
        "no voters, and the leader is not sealed",
        304,
        None,
        look(electing(sync=sync()), DEAD1, SEAL2, SEAL3),
    ),
    Case(
        "WAL of a term above all that the ledger knows: it was restored from too old a file",
        304,
        None,
        look(electing(), DEAD1, SEAL2, report(3, standby(), sealed(3, pos(4, 5000)))),
    ),
    Case("enough sealed", 305, cmd.Elect, look(electing(), DEAD1, SEAL2, SEAL3)),
    Case(
        "enough sealed, another may follow",
        305,
        None,
        look(electing(sync=sync(2)), DEAD1, SEAL2, UNSEALED3, phase_since=NOW),
    ),
    Case(
        "the epoch record is on a voter",
        401,
        cmd.Establish,
        look(
            establishing(),
            report(
                2,
                primary(
                    position=pos(4, 5300),
                    epoch_record_end=Lsn(5300),
                    senders=(sender(3, term=Term(4), flush=Lsn(5300)),),
                ),
            ),
        ),
    ),
    Case(
        "nobody takes the epoch record",
        402,
        cmd.Begin,
        look(establishing(), report(2, primary(senders=()))),
    ),
    Case("the barrier is not done", 501, None, look(facts(sync=HALF), names_since=NOW)),
    Case(
        "the barrier is done",
        501,
        cmd.ChangeSync,
        look(facts(sync=HALF), report(1, primary(settled=5, names_generation=5))),
    ),
    Case("the barrier cannot end", 508, cmd.ChangeSync, look(facts(sync=HALF), report(1, ALONE))),
    Case(
        "the barrier cannot end, and V has a copy that is gone",
        508,
        cmd.ChangeSync,
        look(facts(sync=GONE), report(1, ALONE)),
    ),
    Case(
        "what was to come in has been copied anew",
        508,
        cmd.ChangeSync,
        look(facts(sync=OUTLIVED), report(1, primary(settled=5, names_generation=5))),
    ),
    Case(
        "the barrier cannot end, and a switchover waits for it",
        508,
        cmd.ChangeSync,
        look(
            facts(sync=replace(GONE, names=WERE[:1]), switchover=WISH),
            report(1, primary(settled=4, names_generation=5)),
        ),
    ),
    Case(
        "nobody streams any more",
        502,
        cmd.ChangeSync,
        look(facts(), report(1, ALONE, missing_ms={str(key(2)): 4000, str(key(3)): 4000})),
    ),
    Case("nobody streams since just now", 502, None, look(facts(), report(1, ALONE))),
    Case("somebody streams again", 503, cmd.ChangeSync, look(facts(sync=sync()))),
    Case(
        "too few for k",
        504,
        cmd.ChangeSync,
        look(
            facts(members=FIVE, sync=sync(2, 3, 4, k=2)),
            report(
                1, primary(senders=(sender(2),)), missing_ms={str(key(3)): 4000, str(key(4)): 4000}
            ),
            *FIVE_QUIET,
        ),
    ),
    Case("a new standby is close", 505, cmd.ChangeSync, look(facts(sync=sync(2)))),
    Case(
        "a voter is silent",
        506,
        cmd.ChangeSync,
        look(facts(), report(1, primary(senders=(sender(2),)), missing_ms={str(key(3)): 4000})),
    ),
    Case(
        "enough for a larger k",
        507,
        cmd.ChangeSync,
        look(facts(members=FIVE, sync=sync(2, 3, k=1)), *FIVE_QUIET),
    ),
    Case(
        "the candidate's disk is full",
        601,
        cmd.EndSwitchover,
        look(facts(switchover=WISH), report(1, READY), full(report(2, standby()))),
    ),
    Case(
        "nobody has more room than the primary",
        620,
        None,
        look(facts(), full(report(1, primary())), full(report(2, standby()))),
    ),
    Case(
        "nobody is fit to take over",
        601,
        cmd.EndSwitchover,
        look(facts(switchover=WISH), report(1, ALONE)),
    ),
    Case(
        "the primary's report lacks a candidate that streams by its own word",
        601,
        None,
        look(facts(switchover=NEW_WISH), report(1, ALONE)),
    ),
    Case(
        "it is the one with a tag that is asked for",
        601,
        cmd.EndSwitchover,
        look(
            facts(
                switchover=NEW_WISH,
                members={**facts().members, NodeId("n2"): member(2, tags=Tags(nofailover=True))},
            ),
            report(1, ALONE),
        ),
    ),
    Case(
        "it streams from another one",
        601,
        cmd.EndSwitchover,
        look(
            facts(switchover=NEW_WISH),
            report(1, ALONE),
            report(2, standby(receiver=Receiver(NodeId("n3"), TERM, "streaming", Lsn(5000)))),
        ),
    ),
    Case("a switchover is asked for", 602, None, look(facts(switchover=WISH))),
    Case(
        "and the primary has checkpointed",
        603,
        cmd.Begin,
        look(facts(switchover=WISH), report(1, READY)),
    ),
    Case(
        "and every program knows of holding",
        610,
        cmd.Hold,
        look(facts(switchover=WISH, level=HOLDS), report(1, READY)),
    ),
    Case(
        "clients are held, and something runs",
        611,
        None,
        look(
            facts(switchover=HELD, level=HOLDS),
            quiet(report(1, READY)),
            quiet(report(2, standby())),
            held_since=Instant(NOW - 1000),
        ),
    ),
    Case(
        "nothing runs any more, but for a node that is silent",
        603,
        cmd.Begin,
        look(
            facts(switchover=HELD, level=HOLDS),
            quiet(report(1, READY)),
            quiet(report(2, standby())),
            late(report(3, standby())),
            held_since=Instant(NOW - 1000),
        ),
    ),
    Case(
        "something runs for longer than the hold",
        603,
        cmd.Begin,
        look(
            facts(switchover=HELD, level=HOLDS),
            report(1, READY),
            held_since=Instant(NOW - Policy().hold_ms),
        ),
    ),
    Case(
        "the candidate is lost during the hold",
        601,
        cmd.EndSwitchover,
        look(facts(switchover=HELD, level=HOLDS), report(1, ALONE)),
    ),
    Case(
        "a rebuilt replica that counts nowhere",
        701,
        cmd.RegisterIncarnation,
        look(
            facts(sync=sync(2)),
            report(1, primary(senders=(sender(2),))),
            report(3, standby(), promises(3, incarnation="b3")),
        ),
    ),
    Case(
        "the lease was not renewed",
        901,
        cmd.ExpireLease,
        look(facts(), late(report(1, primary()), 500), leases_over=((1, 0),)),
    ),
    Case(
        "the lease was renewed since",
        900,
        None,
        look(facts(lease=lease(renew_seq=1)), leases_over=((1, 0),)),
    ),
    Case(
        "the lease of the last term was not renewed, and nobody can be elected",
        901,
        cmd.ExpireLease,
        look(electing(), DEAD1, leases_over=((1, 0),)),
    ),
    Case(
        "a former lease was not renewed",
        901,
        cmd.ExpireLease,
        look(facts(lease=lease(id=2, former=FORMER)), leases_over=((1, 7),)),
    ),
    Case(
        "who had a former lease promised a later term",
        902,
        cmd.ExpireLease,
        look(facts(lease=lease(id=2, former=FORMER))),
    ),
    Case(
        "who has a former lease is not heard",
        900,
        None,
        look(facts(lease=lease(id=2, former=FORMER)), late(report(2, standby()), 2000), me=3),
    ),
    Case(
        "the lease of a leader that is back expired",
        903,
        cmd.GrantLease,
        look(facts(lease=lease(expired=True)), ASKS1),
    ),
    Case("there was no lease yet", 903, cmd.GrantLease, look(facts(lease=None), ASKS1)),
    Case("nobody asks for a lease", 900, None, look(facts(lease=lease(expired=True)))),
    Case("a new member", 702, "learner", joined()),
    Case(
        "a learner has caught up",
        703,
        "voter",
        look(facts(), raft_voters=(RaftId(1), RaftId(2)), raft_learners=(RaftId(3),)),
    ),
    Case(
        "a voter is lost and another member can vote",
        706,
        "voter",
        four_of_three(RaftId(1), RaftId(2), RaftId(3)),
    ),
    Case(
        "and does",
        707,
        "learner",
        four_of_three(RaftId(1), RaftId(2), RaftId(3), RaftId(4)),
    ),
    Case(
        "a member leaves consensus",
        704,
        "remove",
        look(
            facts(sync=sync(2), members={**facts().members, NodeId("n3"): member(3, leaving=True)}),
            report(1, primary(senders=(sender(2),))),
        ),
    ),
    Case("a member has left", 705, cmd.RemoveMember, joined(leaving=True)),
    Case(
        "a store is heard of",
        716,
        cmd.RegisterStore,
        look(facts(), report(3, standby(), store_incarnation="s3")),
    ),
    Case(
        "a node with amnesia asks",
        717,
        cmd.Readmit,
        look(
            facts(sync=sync(2)),
            report(1, primary(senders=(sender(2),))),
            late(report(3, standby())),
            asking={NodeId("n3"): Asking("s9", RaftId(3))},
        ),
    ),
    Case(
        "the leader asks, and others have what it has",
        202,
        cmd.Begin,
        look(facts(), late(report(1, primary())), asking=FORGOT),
    ),
    Case(
        "the leader asks under a Raft id of before",
        203,
        None,
        look(
            facts(),
            late(report(1, primary())),
            asking={NodeId("n1"): Asking("s9", RaftId(99))},
        ),
    ),
    Case(
        "a Raft id is left behind",
        718,
        "remove",
        look(
            facts(
                members={**facts().members, NodeId("n3"): member(3, raft_id=RaftId(4))},
                next_raft_id=RaftId(5),
            ),
            report(3, standby(), raft_id=RaftId(4)),
            raft_learners=(RaftId(4),),
            caught_up=(),
        ),
    ),
    Case("the primary leads consensus", 801, "transfer", look(facts(), me=1)),
    Case("all is well", 900, None, look(facts())),
    *(Case(*each) for each in MODE_CASES),
    *(Case(*each) for each in HERD_UPKEEP),
    *(Case(*each) for each in HERD_CASES),
    *(Case(*each) for each in config_cases.HERD_CASES),
    *(Case(*each) for each in password_cases.HERD_CASES),
    *(Case(*each) for each in slot_cases.HERD_CASES),
    *(Case(*each) for each in HERD_STANDBY),
)


def act_of(seen: Situation) -> tuple[int, object]:
    """Which rule decided, and to do what."""
    decision = herd.decide(seen.facts, view=seen.view, policy=seen.policy, now=seen.now)
    if decision.command is not None:
        return decision.rule, type(decision.command)
    if isinstance(decision.membership, Membership):
        return decision.rule, decision.membership.verb
    return decision.rule, "transfer" if decision.transfer_to else None


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.story}")
def test_rule_decides(case: Case) -> None:
    """The case's rule decides, and does what the case says."""
    assert act_of(case.seen) == (case.rule, case.does)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.story}")
def test_ledger_takes_what_is_decided(case: Case) -> None:
    """Whatever a rule decides, the ledger accepts for the facts that it was decided from."""
    seen = case.seen
    decision = herd.decide(seen.facts, view=seen.view, policy=seen.policy, now=seen.now)
    if decision.command is not None:
        _, outcome = apply_command(seen.facts, decision.command, at_ms=0)
        assert isinstance(outcome, cmd.Done), outcome


def test_every_rule_has_a_case() -> None:
    """No row of the table goes untested."""
    assert {rule.number for rule in herd.RULES} <= {case.rule for case in CASES}


def elect(seen: Situation) -> cmd.Elect:
    decision = herd.decide(seen.facts, view=seen.view, policy=seen.policy, now=seen.now)
    assert isinstance(decision.command, cmd.Elect), decision
    return decision.command


def test_winner_has_the_greatest_position() -> None:
    """By epoch first: a longer log of an older epoch loses."""
    longer = report(3, parked(pos(2, 9000)), sealed(3, pos(2, 9000)))
    command = elect(look(electing(), DEAD1, SEAL2, longer))
    assert (command.winner, command.start) == (key(2), pos(3, 5000))


def test_k_counts_only_who_can_stream() -> None:
    """A sealed member off the winner's history must be rewound first: it raises no k'."""
    diverged = report(3, parked(pos(2, 9000)), sealed(3, pos(2, 9000)))
    command = elect(look(electing(), DEAD1, SEAL2, diverged))
    assert (command.voters, command.k) == ((), 0)
    assert elect(look(electing(), DEAD1, SEAL2, SEAL3)).voters == (key(1), key(3))


def test_who_led_and_is_not_sealed_is_named_to_the_winner() -> None:
    """Also whoever led before a term that was never established; not who seals, nor the winner."""
    known = electing(level=2, unsealed=(key(3),))
    assert elect(look(known, DEAD1, SEAL2, SEAL3)).unsealed == (key(1),)
    alone = replace(known, sync=sync(2))
    assert elect(look(alone, DEAD1, SEAL2, late(UNSEALED3))).unsealed == (key(1), key(3))
    assert elect(look(electing(), DEAD1, SEAL2, SEAL3)).unsealed == (), "older members do not know"


def test_who_wins_in_spite_of_a_loss_leads_alone() -> None:
    """It has most of what is left, of voters and others; V' is empty, so nobody else may follow."""
    four = {**electing().members, NodeId("n4"): member(4)}
    known = electing(members=four, given_up=LOST, level=2, lease=OVER)
    ahead = report(4, parked(pos(3, 5500)), sealed(4, pos(3, 5500)))
    command = elect(look(known, DEAD1, SEAL2, late(UNSEALED3), ahead))
    assert (command.winner, command.lost) == (key(4), (key(1), key(3)))
    assert (command.voters, command.k) == ((), 0)
    assert command.unsealed == (key(1),), "nobody knows whether the old leader runs"
    enough = replace(LOST, accept_bytes=100)
    assert elect(look(replace(known, given_up=enough), DEAD1, SEAL2, late(UNSEALED3), ahead)).lost


def test_a_named_candidate_wins_only_with_most_of_what_is_left() -> None:
    """An operator's wish gives up what the lost held, not what others still have."""
    four = {**electing().members, NodeId("n4"): member(4)}
    wish = replace(LOST, candidate=NodeId("n4"))
    behind = report(4, parked(pos(3, 4000)), sealed(4, pos(3, 4000)))
    known = electing(members=four, given_up=wish, lease=OVER)
    voting = tuple(RaftId(n) for n in (1, 2, 3, 4))
    seen = look(known, DEAD1, SEAL2, late(UNSEALED3), behind, raft_voters=voting)
    assert act_of(seen) == (308, None)


def test_a_full_disk_leads_last() -> None:
    """Room counts before priority; where nobody has any, the old leader again, else who can."""
    known = electing(members={**electing().members, NodeId("n2"): member(2, tags=Tags(500))})
    same3 = report(3, parked(pos(3, 5000)), sealed(3, pos(3, 5000)))
    assert elect(look(known, DEAD1, SEAL2, same3)).winner == key(2)
    passed = elect(look(known, DEAD1, full(SEAL2), same3))
    assert passed.winner == key(3)
    assert passed.reason.endswith("passed over with less than 64 MB free on disk: n2")
    last = elect(look(known, DEAD1, full(SEAL2), full(same3)))
    assert last.winner == key(2)
    assert "less than 64 MB free" in last.reason
    again = report(1, parked(pos(3, 5000)), sealed(1, pos(3, 5000)))
    assert elect(look(known, full(again), full(SEAL2), full(same3))).winner == key(1)


def test_who_led_leads_again_among_equals() -> None:
    """Who was silent and is back; priority counts first; whose server died comes last."""
    again = report(1, parked(pos(3, 5000)), sealed(1, pos(3, 5000)))
    same3 = report(3, parked(pos(3, 5000)), sealed(3, pos(3, 5000)))
    cut = electing(rule=203)
    assert elect(look(cut, again, SEAL2, same3)).winner == key(1)
    wanted = {**cut.members, NodeId("n3"): member(3, tags=Tags(101))}
    assert elect(look(replace(cut, members=wanted), again, SEAL2, same3)).winner == key(3)
    for rule in (202, 402):
        assert elect(look(electing(rule=rule), again, SEAL2, same3)).winner == key(2)


def test_a_term_that_failed_wants_one_less() -> None:
    """After rule 402 who led and failed asks for fewer acknowledgements, so that it ends.

    Also where two take turns at it; whoever has not tried since asks for as many as can stream.
    """
    [old] = facts().history
    mine = replace(old, established=False)
    theirs = replace(reign(4, 2, pos(3, 4000)), established=False)
    again = electing(rule=402, history=(mine,))
    assert elect(look(again, CLOSED1, SEAL2, SEAL3)).k == 0
    turns = electing(rule=402, term=Term(5), leader=key(2), sync=sync(1, 3))
    end = pos(3, 4000)
    seals = [
        report(n, parked(end), promises(n, promise=Term(5), frozen=Frozen(Term(5), end)))
        for n in (1, 3)
    ]
    for first, k in ((old, 1), (mine, 0)):
        seen = look(replace(turns, history=(first, theirs)), late(report(2, primary())), *seals)
        assert (elect(seen).winner, elect(seen).k) == (key(1), k)


def test_strict_never_wants_less_than_num_sync() -> None:
    """In mode strict a herd of five with one streamer keeps its names closed: V' is empty."""
    known = electing(members=FIVE, sync=sync(2, 3, 4, 5, k=2), mode=Mode.STRICT)
    off = [report(n, parked(pos(2, 9000)), sealed(n, pos(2, 9000))) for n in (4, 5)]
    command = elect(look(known, DEAD1, SEAL2, SEAL3, *off))
    assert (command.voters, command.k) == ((), 0)


def test_rebuilt_and_half_rewound_members_are_not_counted() -> None:
    """Another incarnation, a floor not regained and a dirty rewind count for nothing (F3)."""
    rebuilt = replace(sealed(3, pos(3, 4000)), incarnation="b3")
    known = electing()
    n3 = replace(known.members[NodeId("n3")], incarnation="b3")
    told = replace(known, members={**known.members, NodeId("n3"): n3})
    half = replace(sealed(3, pos(3, 4000)), dirty_rewind=True)
    for at, broken in ((known, half), (told, rebuilt)):
        seen = look(at, DEAD1, SEAL2, report(3, parked(pos(3, 4000)), broken))
        assert act_of(seen) == (304, None)
    seen = look(known, DEAD1, SEAL2, report(3, parked(pos(3, 4000)), rebuilt))
    assert key(3) not in sealed_members(seen)
    assert act_of(seen) == (701, cmd.RegisterIncarnation), "it is only written down"


def test_who_was_promoted_by_hand_is_not_counted() -> None:
    """However far its WAL goes; the last leader counts, unless another has more than it had."""
    stray = Fork(Timeline(4), Lsn(3000))

    def strayed(number: int) -> Heard:
        own = replace(sealed(number, pos(3, 9000)), adopted=TERM)
        return report(number, parked(pos(3, 9000), stray=stray), own)

    assert act_of(look(electing(), DEAD1, SEAL2, strayed(3))) == (304, None)
    led_again = (*facts().history, replace(reign(4, 1, pos(3, 3000)), established=False))
    known = electing(term=Term(4), history=led_again)
    assert key(3) in sealed_members(look(known, DEAD1, SEAL2, strayed(3)))
    assert key(3) not in sealed_members(look(electing(), DEAD1, SEAL2, strayed(3)))
    last = strayed(1)
    for lsn, winner in ((3000, key(1)), (3500, None)):
        behind = report(2, parked(pos(3, lsn)), sealed(2, pos(3, lsn)))
        seen = look(electing(sync=sync(2, 3, 4), members=FIVE), last, behind)
        decision = herd.decide(seen.facts, view=seen.view, policy=seen.policy, now=seen.now)
        found = decision.command.winner if isinstance(decision.command, cmd.Elect) else None
        assert found == winner, decision.reason


def test_suspicion_of_the_same_node_is_rare() -> None:
    """Silence of a node that was suspected a moment ago waits for the minimum interval."""
    old, new = facts().history[0], replace(facts().history[0], term=Term(4), rule=203)
    lately = facts(history=(old, replace(new, began_at_ms=NOW - 5000)), term=Term(4))
    seen = look(
        lately, late(report(1, primary())), report(3, standby(), heard_ms={NodeId("n1"): 9000})
    )
    assert act_of(seen) == (203, None)


def test_a_leader_without_memory_is_replaced_unless_it_alone_has_everything() -> None:
    """Then it is re-admitted; where no failover is wanted, its state is said."""
    gone = late(report(1, primary()))
    twice = look(facts(), report(1, primary()), asking=FORGOT)
    assert suspicion.reported_dead(twice) is None, "a daemon of its name reports"
    alone = look(facts(sync=sync()), gone, asking=FORGOT)
    assert suspicion.reported_dead(alone) is None
    assert readmission.obstacle(alone, NodeId("n1")) == ""
    kept = look(facts(), gone, asking=FORGOT)
    kept = replace(kept, policy=replace(kept.policy, failover_enabled=False))
    answer = suspicion.reported_dead(kept)
    assert answer is not None
    assert (answer.command, answer.reason) == (
        None,
        "n1 has lost its Raft store; failover is disabled",
    )


def test_waits_keep_the_first_reason() -> None:
    """With nothing to do a decision says what it waits for, and is no act."""
    seen = look(facts(), report(1, ALONE))
    decision = herd.decide(seen.facts, view=seen.view, policy=seen.policy, now=seen.now)
    assert not herd.is_act(decision)
    assert "timeout" in decision.reason
    assert seen.facts.phase is Phase.STABLE
    assert seen.facts.term == TERM


def test_in_between_only_urgent_rules_are_asked() -> None:
    """A dead leader ends its term at once; what can wait for the next whole look waits."""
    for case in (case for case in CASES if case.rule != 900):
        seen = case.seen
        decision = herd.decide(
            seen.facts, view=seen.view, policy=seen.policy, now=seen.now, urgent_only=True
        )
        is_urgent = any(rule.number == case.rule for rule in herd.URGENT)
        assert (decision.rule == case.rule) is is_urgent, case.story
