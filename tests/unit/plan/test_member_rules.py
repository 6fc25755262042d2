"""Every rule of the member decider, as a table: what a node knows, and which rule decides what."""

from __future__ import annotations

from typing import Any, NamedTuple

import cascade_cases
import config_cases
import password_cases
import pytest
import slot_cases
from archive_cases import MEMBER_ARCHIVE
from forward_cases import MEMBER_CASES
from plan_values import (
    CLOSED,
    NOW,
    SYSTEM,
    electing,
    establishing,
    facts,
    key,
    member,
    myself,
    parked,
    pos,
    primary,
    promises,
    reign,
    replace,
    report,
    sealed,
    standby,
    sync,
    unborn,
)
from remedy_cases import MEMBER_REMEDIES
from standby_cases import MEMBER_STANDBY
from upkeep_cases import COPIES, MEMBER_UPKEEP

from pgherd.model import action as act
from pgherd.model.branch import Fork
from pgherd.model.facts import Facts, Floor, Handover, Kind, Mode, Switchover, SyncUse
from pgherd.model.ids import Instant, Lsn, MemberKey, NodeId, Term, Timeline
from pgherd.model.observation import Server, ServerSeen
from pgherd.model.policy import FenceOrder, Policy
from pgherd.model.promises import Promises
from pgherd.plan import member as decider
from pgherd.plan.member import Self, names_text


def own(number: int, **changes: Any) -> Promises:
    """The promises of a node that promoted its server itself."""
    return promises(number, adopted_leader=NodeId(f"n{number}"), **changes)


class Case(NamedTuple):
    """does: the type of the action, None to wait."""

    story: str
    rule: int
    does: type[act.Action] | None
    known: Self


NONE = ServerSeen()
STOPPED = ServerSeen(state=Server.STOPPED, system_id=SYSTEM)
STARTING = replace(STOPPED, state=Server.STARTING, since=NOW)
HUNG = replace(STOPPED, state=Server.HUNG)
HANDOVER = Handover(switchover="s1", candidate=NodeId("n2"))
WISH = Switchover(id="s1", candidate=None, requested_by="ann", requested_at_ms=0)
HALF = sync(2, 3, names=(key(2),), generation=5, in_use=(SyncUse(4, (key(2), key(3)), 1),))
BACK = sync(names=(key(2),), names_k=1, generation=5, in_use=(SyncUse(4, (), 0),))
LEADER = report(1, primary()).report
ALONE = report(1, primary(senders=())).report
NEW = establishing()
MORE_SLOTS = (*primary().slots, "pgherd_gone")
"""Term 4: n2 was elected at 3:5000, the end of n1's third term."""
STABLE_NEW = replace(facts(), term=Term(4), leader=key(2), sync=sync(1, 3), history=NEW.history)
LEADER_NEW = report(2, primary(checkpointed_term=Term(4))).report
YOUNG_NEW = report(2, primary()).report
DIRTY = promises(2, dirty_rewind=True)
LONG_AGO = Instant(0)
HANDMADE = primary()
ONCE_PRIMARY = replace(STOPPED, was_primary=True)
OF_N1 = promises(2, adopted=Term(2), adopted_leader=NodeId("n1"))
ASTRAY = parked(pos(3, 4500), stray=Fork(Timeline(4), Lsn(4000)))
FOLLOWED = promises(2, adopted=Term(3), adopted_leader=NodeId("n1"))
LED_AGAIN = (*facts().history, replace(reign(4, 1, pos(3, 4000)), established=False))
ASLEEP = {"promises": promises(2), "caught_up": False}
FENCING = Policy(fence=FenceOrder(command=("/bin/fence",), deadline_ms=5000, required=True))


def me(number: int, known: object, server: ServerSeen, **more: object) -> Self:
    return myself(known, server, me=number, **more)  # type: ignore[arg-type]


CASES = (
    Case("no member yet", 11, None, me(4, facts(), NONE)),
    Case(
        "a witness",
        11,
        None,
        me(2, facts(members={NodeId("n2"): member(2, kind=Kind.WITNESS)}), NONE),
    ),
    Case("unusable", 12, None, me(2, facts(), ServerSeen(state=Server.UNUSABLE))),
    Case("another cluster's", 13, None, me(2, facts(), standby(system_id="74"))),
    Case(
        "another cluster's, and a new copy is asked for",
        13,
        act.Rebuild,
        me(2, COPIES, standby(system_id="74")),
    ),
    Case(
        "another cluster's primary is stopped before",
        13,
        act.StopServer,
        me(2, COPIES, primary(system_id="74"), promises=promises(2)),
    ),
    Case(
        "promised more", 14, None, me(2, facts(), standby(), promises=promises(2, promise=Term(9)))
    ),
    Case("just started", 16, None, me(2, facts(), STOPPED, caught_up=False)),
    Case("amnesia", 18, None, me(2, unborn(), primary(), amnesia="its store is lost")),
    Case("amnesia of a closed one", 18, None, me(2, unborn(), primary(names=CLOSED), amnesia="-")),
    Case("amnesia of a standby", 18, None, me(2, unborn(), standby(), amnesia="-")),
    Case(
        "amnesia of one that may write alone",
        19,
        act.HoldWrites,
        me(2, unborn(), primary(names=""), amnesia="its store is lost", caught_up=False),
    ),
    Case(
        "amnesia of one that hangs and may have sessions that write",
        19,
        act.StopServer,
        me(2, unborn(), HUNG, amnesia="its store is lost", caught_up=False),
    ),
    Case(
        "may write alone, was re-admitted and has heard nothing of the ledger yet",
        19,
        act.HoldWrites,
        me(2, Facts("main"), primary(names=""), caught_up=False),
    ),
    Case(
        "stopped on a full disk",
        86,
        act.FreeBallast,
        me(2, facts(), replace(STOPPED, starved=True)),
    ),
    Case("a hung standby", 15, act.StopServer, me(2, facts(), HUNG)),
    Case("a hung leader in an election", 15, act.StopServer, me(1, electing(), HUNG)),
    Case("starting", 15, None, me(2, facts(), STARTING)),
    Case("starting half rewound", 15, act.StopServer, me(2, facts(), STARTING, promises=DIRTY)),
    Case("died again", 64, None, me(1, facts(), replace(STOPPED, since=NOW, crashes=2))),
    Case(
        "the founder",
        21,
        act.InitDb,
        me(1, unborn(founder=NodeId("n1")), NONE, promises=Promises()),
    ),
    Case(
        "not the founder", 22, None, me(2, unborn(founder=NodeId("n1")), NONE, promises=Promises())
    ),
    Case(
        "promised to another elector",
        31,
        None,
        me(
            2,
            electing(),
            standby(),
            promises=promises(2, promise=Term(4), promise_elector=NodeId("n3")),
        ),
    ),
    Case("hands over", 32, act.DrainAndStop, me(1, electing(handover=HANDOVER), primary())),
    Case("waits for the drain", 33, None, me(2, electing(handover=HANDOVER), standby())),
    Case("closes", 34, act.CloseGate, me(1, electing(), primary())),
    Case(
        "closes a gate that no lease holds open any more",
        34,
        act.CloseGate,
        me(1, electing(sync=sync()), primary(names=""), has_lease=False),
    ),
    Case(
        "is closed",
        34,
        None,
        me(1, electing(), primary(names=CLOSED), promises=own(1, promise=Term(4))),
    ),
    Case(
        "is closed, but was re-admitted meanwhile and has promised the elector nothing",
        34,
        act.CloseGate,
        me(
            1,
            electing(),
            primary(names=CLOSED),
            promises=own(1, promise=Term(4), promise_elector=None),
        ),
    ),
    Case("a foreign primary", 34, act.StopServer, me(2, electing(), primary())),
    Case("starts to seal", 35, act.StartStandby, me(2, electing(), STOPPED)),
    Case("half rewound in an election", 35, None, me(2, electing(), STOPPED, promises=DIRTY)),
    Case("seals", 36, act.Seal, me(2, electing(), standby())),
    Case(
        "is sealed",
        36,
        None,
        me(2, electing(), parked(pos(3, 5000)), promises=sealed(2, pos(3, 5000))),
    ),
    Case("no data in an election", 37, None, me(2, electing(), NONE)),
    Case("the leader's server died", 41, act.StartStandby, me(1, facts(), STOPPED)),
    Case(
        "promotes",
        42,
        act.Promote,
        me(2, NEW, parked(pos(3, 5000)), promises=sealed(2, pos(3, 5000))),
    ),
    Case(
        "was to go on as primary, and its server restarted",
        42,
        None,
        me(
            2,
            replace(NEW, history=(*NEW.history[:-1], replace(NEW.history[-1], promoted=False))),
            parked(pos(3, 5000)),
            promises=sealed(2, pos(3, 5000)),
        ),
    ),
    Case(
        "fences who led before",
        39,
        act.Fence,
        me(
            2,
            replace(NEW, unsealed=(key(1),)),
            parked(pos(3, 5000)),
            promises=sealed(2, pos(3, 5000)),
            policy=FENCING,
        ),
    ),
    Case(
        "has no fencing command",
        42,
        act.Promote,
        me(
            2,
            replace(NEW, unsealed=(key(1),)),
            parked(pos(3, 5000)),
            promises=sealed(2, pos(3, 5000)),
        ),
    ),
    Case(
        "who led before is sealed or fenced",
        42,
        act.Promote,
        me(2, NEW, parked(pos(3, 5000)), promises=sealed(2, pos(3, 5000)), policy=FENCING),
    ),
    Case(
        "fences nobody from where it would not be promoted",
        42,
        None,
        me(2, replace(NEW, unsealed=(key(1),)), parked(pos(3, 5000)), policy=FENCING),
    ),
    Case(
        "was promoted and crashed",
        42,
        None,
        me(2, NEW, parked(pos(4, 5300)), promises=sealed(2, pos(3, 5000))),
    ),
    Case("elected, not sealed there", 42, None, me(2, NEW, parked(pos(3, 5000)))),
    Case("writes the epoch record", 43, act.KeepLeading, me(2, NEW, primary())),
    Case("keeps slots", 44, act.KeepSlots, me(1, facts(), primary(slots=()))),
    Case("drops a slot too many", 44, act.KeepSlots, me(1, facts(), primary(slots=MORE_SLOTS))),
    Case(
        "leaves one alone that is read",
        48,
        None,
        me(1, facts(), primary(slots=MORE_SLOTS, slots_in_use=MORE_SLOTS)),
    ),
    Case(
        "writes alone without a lease",
        71,
        act.HoldWrites,
        me(1, facts(sync=sync()), primary(names=""), has_lease=False),
    ),
    Case(
        "wrote alone when its agent died, and does not know what has been since",
        71,
        act.HoldWrites,
        me(1, electing(sync=sync()), primary(names=""), has_lease=False, caught_up=False),
    ),
    Case(
        "wrote alone in mode async and hangs",
        71,
        act.StopServer,
        me(1, facts(sync=sync(), mode=Mode.ASYNC), HUNG, has_lease=False),
    ),
    Case(
        "wrote alone and hangs: nobody else may lead",
        48,
        None,
        me(1, facts(sync=sync()), HUNG, has_lease=False),
    ),
    Case(
        "would open alone without a lease",
        72,
        None,
        me(1, facts(sync=sync()), primary(names=CLOSED, names_generation=0), has_lease=False),
    ),
    Case(
        "writes alone when its watchdog fails",
        76,
        act.HoldWrites,
        me(1, facts(sync=sync()), primary(names=""), watchdog="there is no /dev/watchdog"),
    ),
    Case(
        "would open alone without its watchdog",
        77,
        None,
        me(1, facts(sync=sync()), primary(names=CLOSED, names_generation=0), watchdog="none"),
    ),
    Case(
        "leads with voters and without its watchdog",
        48,
        None,
        me(1, facts(), primary(), watchdog="none"),
    ),
    Case(
        "opens alone with its lease",
        45,
        act.SetNames,
        me(1, facts(sync=sync()), primary(names=CLOSED, names_generation=0)),
    ),
    Case(
        "leads with voters and without a lease",
        48,
        None,
        me(1, facts(), primary(), has_lease=False),
    ),
    Case("opens", 45, act.SetNames, me(1, facts(), primary(names=CLOSED))),
    Case(
        "settles",
        46,
        act.Settle,
        me(1, facts(sync=HALF), primary(facts(sync=HALF), names_generation=5)),
    ),
    Case("switches on", 46, act.Settle, me(1, facts(sync=BACK), primary(names=""))),
    Case(
        "switches on without a lease",
        46,
        act.Settle,
        me(1, facts(sync=BACK), primary(names=CLOSED), has_lease=False),
    ),
    Case(
        "checkpoints after promotion",
        47,
        act.Checkpoint,
        me(1, facts(), primary(checkpointed_term=Term(2))),
    ),
    Case(
        "checkpoints for a switchover", 47, act.Checkpoint, me(1, facts(switchover=WISH), primary())
    ),
    Case("leads", 48, None, me(1, facts(), primary())),
    Case("demotes", 51, act.StopServer, me(1, STABLE_NEW, primary())),
    Case("copies", 52, act.Rebuild, me(2, facts(), NONE)),
    Case(
        "copies when half rewound",
        52,
        act.Rebuild,
        me(2, facts(sync=sync(3)), STOPPED, promises=DIRTY),
    ),
    Case("nobody to copy from", 52, None, me(2, facts(), NONE, leader_report=None)),
    Case("starts", 53, act.StartStandby, me(2, facts(), STOPPED)),
    Case(
        "leaves its old upstream",
        54,
        act.Seal,
        me(3, STABLE_NEW, standby(), leader_report=LEADER_NEW),
    ),
    Case("under its old name", 55, act.Follow, me(2, facts(), standby(upstream_incarnation="old"))),
    Case("follows", 55, act.Follow, me(3, NEW, parked(pos(3, 4000)))),
    Case(
        "follows the same server in a new term",
        55,
        act.Follow,
        me(
            2,
            facts(
                term=Term(4),
                history=(reign(3, 1, pos(0, 1000)), reign(4, 1, pos(3, 5000), promoted=False)),
            ),
            standby(),
        ),
    ),
    Case(
        "rewinds", 56, act.Rewind, me(1, STABLE_NEW, parked(pos(3, 6000)), leader_report=LEADER_NEW)
    ),
    Case(
        "waits for the leader's checkpoint",
        56,
        None,
        me(1, STABLE_NEW, parked(pos(3, 6000)), leader_report=YOUNG_NEW),
    ),
    Case(
        "copies where timelines are equal",
        56,
        act.Rebuild,
        me(1, STABLE_NEW, parked(pos(3, 6000), timeline=Timeline(4)), leader_report=LEADER_NEW),
    ),
    Case(
        "regains its floor",
        57,
        act.ClearFloor,
        me(2, facts(), standby(), promises=promises(2, floor=Floor(pos(2, 9000)))),
    ),
    Case(
        "is stuck",
        58,
        act.Rebuild,
        me(
            2,
            facts(sync=sync(3)),
            standby(receiver=None),
            leader_report=ALONE,
            following_since=LONG_AGO,
        ),
    ),
    Case("promoted by hand", 73, act.Disown, me(2, facts(), primary(), promises=promises(2))),
    Case("in an election", 73, act.Disown, me(2, electing(), primary(), promises=promises(2))),
    Case(
        "once followed another",
        73,
        act.Disown,
        me(2, facts(), primary(), promises=promises(2, adopted_leader=NodeId("n1"))),
    ),
    Case(
        "the last leader may have everything: it is stopped only",
        73,
        act.StopServer,
        me(1, electing(), primary(), promises=promises(1)),
    ),
    Case("before it has caught up", 73, act.Disown, me(2, facts(), HANDMADE, **ASLEEP)),
    Case(
        "found on a timeline of no term",
        74,
        act.Disown,
        me(2, facts(), ASTRAY, promises=FOLLOWED),
    ),
    Case("the same in an election", 74, act.Disown, me(2, electing(), ASTRAY, promises=FOLLOWED)),
    Case(
        "the same, by a ledger that may be older than its timeline",
        16,
        None,
        me(2, facts(), ASTRAY, promises=FOLLOWED, caught_up=False),
    ),
    Case(
        "its leader led again before it heard of that",
        36,
        act.Seal,
        me(2, electing(term=Term(5), history=LED_AGAIN), ASTRAY, promises=FOLLOWED),
    ),
    Case("the last leader there", 36, act.Seal, me(1, electing(), ASTRAY)),
    Case(
        "found stopped as a primary", 75, act.Disown, me(2, facts(), ONCE_PRIMARY, promises=OF_N1)
    ),
    Case(
        "the same in an election", 75, act.Disown, me(2, electing(), ONCE_PRIMARY, promises=OF_N1)
    ),
    Case(
        "it was a primary by its own promotion",
        53,
        act.StartStandby,
        me(
            2,
            facts(),
            ONCE_PRIMARY,
            promises=promises(2, adopted=Term(2), adopted_leader=NodeId("n2")),
        ),
    ),
    Case(
        "what initdb made was nobody's",
        53,
        act.StartStandby,
        me(2, facts(), ONCE_PRIMARY, promises=promises(2, adopted=Term(0), adopted_leader=None)),
    ),
    Case(
        "the last leader may have everything",
        35,
        act.StartStandby,
        me(1, electing(), ONCE_PRIMARY, promises=promises(1, adopted_leader=NodeId("n2"))),
    ),
    Case(
        "a primary of another cluster",
        13,
        act.StopServer,
        me(2, facts(), primary(system_id="9"), promises=promises(2)),
    ),
    Case("follows quietly", 59, None, me(2, facts(), standby())),
    *(Case(*each) for each in slot_cases.MEMBER_CASES),
    *(Case(*each) for each in MEMBER_CASES),
    *(Case(*each) for each in MEMBER_REMEDIES),
    *(Case(*each) for each in MEMBER_ARCHIVE),
    *(Case(*each) for each in config_cases.MEMBER_CASES),
    *(Case(*each) for each in cascade_cases.MEMBER_CASES),
    *(Case(*each) for each in password_cases.MEMBER_CASES),
    *(Case(*each) for each in MEMBER_UPKEEP),
    *(Case(*each) for each in MEMBER_STANDBY),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.story}")
def test_rule_decides(case: Case) -> None:
    """The case's rule decides, with the case's act."""
    planned = decider.decide(case.known)
    assert (planned.rule, type(planned.action) if planned.action else None) == (
        case.rule,
        case.does,
    ), planned.reason


UNTESTED = {17, 61}
"""Rules on top of these, tested where their subject is."""


def test_every_rule_has_a_case() -> None:
    """No row of the table goes untested."""
    tested = {case.rule for case in CASES}
    assert {rule.number for rule in decider.RULES} - tested <= UNTESTED


def test_every_action_is_decided_by_some_rule() -> None:
    """An action that no rule yields would be dead code in `act`."""
    yielded = {case.does for case in CASES if case.does is not None}
    assert set(act.Action.__subclasses__()) - yielded == set()


def test_rewind_goes_to_the_fork_and_keeps_a_floor() -> None:
    """The plan leaves nothing to choose: where from, where to, and what must be regained."""
    known = me(1, STABLE_NEW, parked(pos(3, 6000)), leader_report=LEADER_NEW)
    action = decider.decide(known).action
    assert isinstance(action, act.Rewind)
    assert (action.leader, action.fork_lsn, action.floor) == (key(2), 5000, pos(3, 6000))


def test_names_carry_the_token_of_the_term() -> None:
    """Only connections of the current term can match; strict without a set stays closed."""
    assert names_text(facts()) == 'ANY 1 ("n2.a2@3", "n3.a3@3")'
    assert names_text(facts(sync=sync())) == ""
    assert names_text(facts(sync=sync(), mode=Mode.STRICT)) == CLOSED


def test_switching_on_needs_the_probe() -> None:
    """From an empty set to one the act is told to prove that commits wait."""
    action = decider.decide(me(1, facts(sync=BACK), primary(names=""))).action
    assert isinstance(action, act.Settle)
    assert action.from_empty
    assert action.members == (MemberKey(NodeId("n2"), "a2"),)


def test_deciding_is_pure() -> None:
    """The same look, the same plan."""
    for case in CASES:
        assert decider.decide(case.known) == decider.decide(case.known)
