"""Drills in the ledger: one at a time, on a whole cluster, and what makes one worse than before."""

from __future__ import annotations

import msgspec
import pytest

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.ledger.drills import DRILLS_MAX, LASTS_MS_MAX
from pgherd.ledger.levels import LEVEL, needed_level
from pgherd.model.drill import Drill, DrillKind, DrillState, Measured, regression
from pgherd.model.facts import Address, Facts, Kind, Member, Mode, Phase, Switchover
from pgherd.model.ids import MemberKey, NodeId, RaftId, Term
from pgherd.model.upkeep import Verb

replace = msgspec.structs.replace
N1, N2 = NodeId("n1"), NodeId("n2")


def member(number: int) -> Member:
    node = NodeId(f"n{number}")
    where = Address(host=f"h{number}", raft_port=1)
    return Member(node, RaftId(number), Kind.DATA, where, incarnation="a", level=LEVEL)


FACTS = Facts(
    cluster="main",
    level=LEVEL,
    phase=Phase.STABLE,
    term=Term(3),
    leader=MemberKey(N1, "a"),
    members={N1: member(1), N2: member(2)},
)
KILL = DrillKind.KILL


def begin(id: str = "d1", kind: DrillKind = DrillKind.SWITCHOVER, term: int = 3) -> cmd.BeginDrill:
    return cmd.BeginDrill(id, kind, N2, Term(term), "proxy", "ann")


def end(id: str = "d1", outage_ms: int = 600, **changes: object) -> cmd.EndDrill:
    found = Measured(outage_ms, acknowledged=90, failed=1)
    made = cmd.EndDrill(id, DrillState.DONE, "n2 leads", new_primary=N2, measured=found)
    return replace(made, **changes)


def taken(facts: Facts, *commands: cmd.AnyCommand, at_ms: int = 5) -> Facts:
    for command in commands:
        facts, outcome = apply_command(facts, command, at_ms=at_ms)
        assert isinstance(outcome, cmd.Done), outcome
    return facts


def refusal(facts: Facts, command: cmd.AnyCommand, at_ms: int = 5) -> str:
    same, outcome = apply_command(facts, command, at_ms=at_ms)
    assert same == facts
    assert isinstance(outcome, cmd.Refused), outcome
    return outcome.code


def test_a_drill_is_kept_with_what_it_found() -> None:
    """Who, which primary, since when; then the figures. A second end says nothing."""
    facts = taken(FACTS, begin(), at_ms=7)
    [one] = facts.drills
    assert (one.primary, one.term, one.node, one.state) == (N1, 3, N2, DrillState.RUNNING)
    facts = taken(facts, end(), at_ms=9)
    [one] = facts.drills
    assert (one.state, one.new_primary, one.began_at_ms, one.ended_at_ms) == ("done", N2, 7, 9)
    assert one.measured == Measured(600, acknowledged=90, failed=1)
    assert [note.kind for note in facts.notes] == ["drill.begun", "drill.ended"]
    assert refusal(facts, end()) == refusal(facts, end("d9")) == "stale"
    assert refusal(facts, begin()) == "already"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"phase": Phase.ELECTING}, "not_stable"),
        ({"switchover": Switchover("s1", None, "ann", 1)}, "busy"),
        ({"term": Term(4)}, "stale"),
    ],
)
def test_a_cluster_that_is_not_at_rest_is_not_drilled(change: dict, code: str) -> None:
    """Whatever the API thought when it asked."""
    assert refusal(replace(FACTS, **change), begin()) == code


def test_pause_maintenance_and_work_come_first() -> None:
    """People work on it: nobody shakes it."""
    assert refusal(taken(FACTS, cmd.Pause("p1", "ann")), begin()) == "paused"
    care = cmd.SetMaintenance(node=N2, enabled=True, requested_by="ann", reason="fans")
    assert refusal(taken(FACTS, care), begin()) == "in_maintenance"
    assert refusal(taken(FACTS, cmd.AskWork("w1", Verb.RESTART, (N2,), "ann")), begin()) == "busy"
    later = cmd.AskWork("w1", Verb.RESTART, (N2,), "ann", not_before_ms=10**12)
    assert taken(FACTS, later, begin()).drills


def test_mode_async_loses_in_a_kill() -> None:
    """A switchover loses nothing in any mode."""
    alone = replace(FACTS, mode=Mode.ASYNC)
    assert refusal(alone, begin(kind=KILL)) == "may_lose"
    assert taken(alone, begin()).drills


def test_one_at_a_time_until_it_is_given_up() -> None:
    """The node that measured may have died: then the next one says so."""
    facts = taken(FACTS, begin(), at_ms=5)
    assert refusal(facts, begin("d2"), at_ms=5 + LASTS_MS_MAX - 1) == "busy"
    first, second = taken(facts, begin("d2"), at_ms=5 + LASTS_MS_MAX).drills
    assert (first.state, second.state) == (DrillState.FAILED, DrillState.RUNNING)
    assert first.text == "n2 did not tell how it ended"


def test_so_many_are_kept() -> None:
    """The oldest go."""
    facts = FACTS
    for number in range(DRILLS_MAX + 3):
        facts = taken(facts, begin(f"d{number}"), end(f"d{number}"))
    assert len(facts.drills) == DRILLS_MAX
    assert facts.drills[-1].id == f"d{DRILLS_MAX + 2}"


def test_one_that_is_worse_is_told() -> None:
    """Twice the median of its own kind, and a quarter of a second more; once, as a warning."""
    facts = taken(FACTS, begin("d1"), end("d1", 400), begin("d2"), end("d2", 500))
    facts = taken(facts, begin("k1", KILL), end("k1", 9000))
    assert not any(one.regression for one in facts.drills)
    facts = taken(facts, begin("d3"), end("d3", 1500))
    text = "writes stood still for 1500 ms, the median of the 2 before is 500 ms"
    assert facts.drills[-1].regression == text
    assert facts.notes[-1].kind == "drill.regressed"
    assert text in facts.notes[-1].text


def test_a_little_more_is_not_worse() -> None:
    """Nor is one drill a measure, nor what failed, nor another way to write."""
    before = Drill(
        id="d1",
        kind=KILL,
        requested_by="ann",
        node=N1,
        primary=N1,
        term=Term(3),
        via="proxy",
        began_at_ms=1,
        state=DrillState.DONE,
        measured=Measured(100, acknowledged=9),
    )
    now = replace(before, id="d2", measured=Measured(340, acknowledged=9))
    assert regression(now, [before, before]) == ""
    worse = replace(now, measured=Measured(400, acknowledged=9))
    assert "the median of the 2 before is 100 ms" in regression(worse, [before, before])
    assert regression(worse, [before]) == ""
    assert regression(worse, [before, replace(before, via="servers")]) == ""
    assert regression(worse, [before, replace(before, state=DrillState.FAILED)]) == ""


def test_older_programs_are_not_asked() -> None:
    """Both came with level 8."""
    assert needed_level(begin()) == needed_level(end()) == 8
