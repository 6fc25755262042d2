"""Where a replica stands, how far behind it is, what helps it and whom it copies."""

from __future__ import annotations

from typing import Any

import pytest
from plan_values import (
    END,
    TERM,
    facts,
    key,
    member,
    parked,
    pos,
    primary,
    promises,
    replace,
    report,
    sender,
    standby,
)
from remedy_cases import GONE, MILD, NEAR, NO_DATA, WITHOUT, empty, lacking, ladder

from pgherd.model import action as act
from pgherd.model.branch import Fork
from pgherd.model.facts import Floor, Phase
from pgherd.model.ids import Instant, Lsn, NodeId, Term, Timeline
from pgherd.model.observation import Receiver, Server, ServerSeen
from pgherd.model.remedy import Ending, Remedy, Repairs, Said, Step
from pgherd.plan import cloning, remedies
from pgherd.plan.member import decide
from pgherd.plan.standstill import Standstill
from pgherd.plan.trail import MARKS_MAX, Trail
from pgherd.plan.truth import Standing, standing

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
LEADER = report(1, primary()).report
COPYING = Remedy(Step.COPY, 52, "copies the leader", 1, source=N1)


def stands(server: ServerSeen, *, leader: Any = LEADER, known: Any = None, **more: Any) -> Any:
    """The state of n2."""
    found = standing(known or facts(), member(2), report(2, server, **more).report, leader)
    return found[0] if found is not None else None


def test_the_states_of_a_replica() -> None:
    """Each by its sign, the strongest first."""
    catchup = report(1, primary(senders=(replace(sender(2), state="catchup"),))).report
    waiting = Receiver(upstream=N1, term=TERM, status="waiting", flush_lsn=END)
    assert stands(standby()) is Standing.STREAMING
    assert stands(standby(), leader=None) is Standing.STREAMING, "the primary is not heard"
    assert stands(standby(), leader=catchup) is Standing.CATCHING_UP
    assert stands(WITHOUT) is Standing.RECOVERY
    assert stands(standby(receiver=waiting)) is Standing.RECOVERY
    assert stands(standby(), repairs=Repairs(stuck="replay is paused")) is Standing.STUCK
    running = Repairs(stuck="nothing comes", remedies=(COPYING,))
    assert stands(NO_DATA, repairs=running) is Standing.REBUILDING
    ended = Repairs(remedies=(replace(COPYING, ending=Ending.FAILED),))
    assert stands(NO_DATA, repairs=ended) is None
    assert stands(ServerSeen(state=Server.STOPPED)) is None
    assert stands(parked(pos(3, END))) is None, "it follows nobody yet"
    electing = facts(phase=Phase.ELECTING, term=Term(4))
    assert stands(standby(), known=electing) is None, "nobody can be judged between two reigns"


@pytest.mark.fault(68)
@pytest.mark.parametrize(
    ("story", "server"),
    [
        ("a reign that the ledger does not know", parked(pos(9, 10))),
        ("behind the point where the next reign left its timeline", parked(pos(0, 1001))),
        ("promoted by hand, at a place of no reign", standby(stray=Fork(Timeline(4), Lsn(3000)))),
        ("the same timeline number, opened elsewhere", standby(stray=Fork(Timeline(3), Lsn(1001)))),
    ],
)
def test_a_replica_on_a_wrong_timeline_is_diverged(story: str, server: ServerSeen) -> None:
    """By the record of reigns and by where timelines begin, never by their numbers alone."""
    own = promises(2, adopted=TERM, adopted_leader=N1)
    seen = report(2, server, own).report
    found = standing(facts(), member(2), seen, LEADER)
    assert found is not None
    assert found[0] is Standing.DIVERGED, story
    assert found[1]


def test_lag_in_time_is_how_long_the_primary_has_had_it() -> None:
    """By this node's clock alone; an idle primary makes nobody late."""
    trail = Trail()
    for second, end in ((0, 100), (10, 200), (20, 300)):
        trail.note(3, Lsn(end), now=Instant(second * 1000))
    now = Instant(25_000)
    assert trail.lag_ms(Lsn(300), now=now) == 0
    assert trail.lag_ms(Lsn(250), now=now) == 5_000
    assert trail.lag_ms(Lsn(100), now=now) == 15_000, "what came after 100 came at 10 s"
    assert trail.lag_ms(Lsn(7), now=now) == 25_000, "at least: nobody listened before"
    trail.note(3, Lsn(300), now=Instant(3_600_000))
    assert trail.lag_ms(Lsn(300), now=Instant(3_600_000)) == 0, "nothing was written for an hour"
    trail.note(4, Lsn(280), now=Instant(3_700_000))
    assert trail.lag_ms(Lsn(250), now=Instant(3_700_500)) == 500, "another reign, another trail"


def test_a_trail_stays_small_and_keeps_its_ends() -> None:
    """A day of reports, thinned out: an hour is still told as an hour, give or take."""
    trail = Trail()
    for second in range(0, 86_400, 10):
        trail.note(3, Lsn(1 + second), now=Instant(second * 1000))
    assert len(trail._marks) <= MARKS_MAX
    now = Instant(86_400_000)
    assert trail.lag_ms(Lsn(86_391 - 100), now=now) == 100_000
    assert trail.lag_ms(Lsn(0), now=now) == 86_400_000


def test_a_streak_of_silence_begins_when_it_last_streamed() -> None:
    """A primary that was idle for an hour gives nobody a reason to copy it at the first break."""
    still = Standstill(Instant(0))
    seen = standby(pid=7)
    still.look(seen, streams=True, leader=LEADER, now=Instant(1))
    still.look(seen, streams=True, leader=LEADER, now=Instant(3_600_000))
    assert still.following_since == still.received_since == 3_600_000
    broken = replace(seen, receiver=None)
    still.look(broken, streams=False, leader=LEADER, now=Instant(3_601_000))
    still.look(broken, streams=False, leader=LEADER, now=Instant(3_606_000))
    assert still.following_since == still.received_since == 3_600_000
    more = replace(broken, position=pos(3, END + 8))
    still.look(more, streams=False, leader=LEADER, now=Instant(3_607_000))
    assert still.following_since == still.received_since == 3_607_000, "it replays what it has"


def test_a_receiver_that_hangs_is_no_stream() -> None:
    """Its walsender says streaming, the primary is ahead, and nothing comes."""
    still = Standstill(Instant(0))
    ahead = report(1, primary(position=pos(3, END + 9000))).report
    seen = standby(pid=7)
    for second in range(10):
        still.look(seen, streams=True, leader=ahead, now=Instant(second * 1000))
    assert (still.following_since, still.received_since) == (9000, 0)
    still.look(seen, streams=True, leader=None, now=Instant(10_000))
    assert still.received_since == 10_000, "nobody knows what the primary has"


def test_a_replay_that_stands_still_is_seen_apart() -> None:
    """WAL comes and is not replayed: by a pause, a query, a delay."""
    still = Standstill(Instant(0))
    for second in range(8):
        end = Lsn(END + second)
        seen = standby(
            pid=7,
            position=pos(3, 100),
            receiver=Receiver(upstream=N1, term=TERM, status="streaming", flush_lsn=end),
        )
        still.look(seen, streams=True, leader=LEADER, now=Instant(second * 1000))
    assert (still.received_since, still.replayed_since) == (7000, 0)


def test_why_a_replica_is_stuck_is_said_with_what_helps() -> None:
    """The log's own words where there are some."""
    assert remedies.stuck(lacking(ladder(5_000, said=GONE))) == (
        f"receives nothing from n1: {GONE.text}"
    )
    assert "does not run" in remedies.stuck(lacking(ladder(5_000), WITHOUT))
    assert "waits" in remedies.stuck(lacking(ladder(5_000)))
    assert remedies.stuck(lacking(ladder(4_000))) == ""
    late = replace(ladder(), replayed_ms=5_000)
    assert "pg_wal_replay_resume" in remedies.stuck(lacking(late, standby(paused=True)))
    assert "recovery_min_apply_delay" in remedies.stuck(lacking(late))
    assert remedies.stuck(lacking(ladder(9_000), parked(pos(3, END)))) == "", "it follows nobody"


def lender(**changes: Any) -> Any:
    """n3 streams from n1 and its operator wants it to be copied."""
    server = replace(standby(), **changes.pop("server", {}))
    return report(3, server, **{"clonefrom": True, **changes}).report


@pytest.mark.parametrize(
    ("story", "given"),
    [
        ("nobody hears it", None),
        ("it does not stream", lender(server={"receiver": None})),
        ("it is ill", lender(server={"healthy": False})),
        ("it strays", lender(server={"stray": Fork(Timeline(9), Lsn(5))})),
        ("its WAL is of an earlier reign", lender(server={"position": pos(2, END)})),
        ("it is far behind", lender(server={"position": pos(3, END - 1)})),
        ("another copy is there now", lender(promises=promises(3, incarnation="b3"))),
        ("it has a floor", lender(promises=promises(3, floor=Floor(pos(3, 9000))))),
    ],
)
def test_only_a_replica_on_the_primarys_history_is_copied(story: str, given: Any) -> None:
    """A copy of any other would have to be copied again, or hide that something is lost."""
    far = report(1, primary(position=pos(3, END + cloning.LAG_BYTES_MAX))).report
    leader = far if story == "it is far behind" else LEADER
    heard = {N1: leader} | ({N3: given} if given is not None else {})
    assert cloning.lenders(facts(), N2, heard) == (), story
    assert len(cloning.lenders(facts(), N2, {N1: LEADER, N3: lender()})) == 1
    assert cloning.lenders(facts(), N3, {N1: LEADER, N3: lender()}) == (), "not itself"


def test_a_preferred_replica_is_copied_until_it_fails() -> None:
    """Then the leader is, and an operator's own word goes before all."""

    def source(**more: Any) -> Any:
        action = decide(empty(ladder=ladder(), **more)).action
        assert isinstance(action, act.Rebuild)
        assert action.leader == key(1)
        return action.source, action.host

    plain = replace(NEAR, preferred=False)
    assert source() == (N1, "h1")
    assert source(lenders=(NEAR,)) == (N3, "h3")
    assert source(lenders=(plain,)) == (N1, "h1"), "nobody wants that"
    failed = replace(ladder(), failed=(N3,))
    action = decide(empty(lenders=(NEAR,), ladder=failed)).action
    assert isinstance(action, act.Rebuild)
    assert (action.source, action.by_command) == (N1, True)


def test_a_command_has_one_turn() -> None:
    """What it made could not follow: pg_basebackup makes the next one."""
    action = decide(lacking(replace(ladder(20_000, *MILD), commanded=True))).action
    assert isinstance(action, act.Rebuild)
    assert not action.by_command


def test_which_acts_are_remedies() -> None:
    """Those that are written into the book."""
    planned = decide(lacking(ladder(5_000, said=Said("timeout"))))
    assert remedies.step_of(planned) is Step.RESTART_RECEIVER
    assert "(timeout)" in planned.reason
    assert remedies.step_of(act.Planned(1, "", act.StartStandby())) is None
