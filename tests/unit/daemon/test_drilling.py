"""What ends a drill, and what keeps a primary from being killed for one: by the ledger's facts."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from pgherd.daemon.drilling import Drilling, cannot_kill, is_over, not_switched
from pgherd.ledger.apply import apply_command
from pgherd.ledger.commands import BeginDrill, Pause, SetMaintenance
from pgherd.ledger.levels import LEVEL
from pgherd.model.drill import Drill, DrillKind
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Address, Facts, Kind, Member, Mode, Phase
from pgherd.model.ids import MemberKey, NodeId, RaftId, Term

N1, N2 = NodeId("n1"), NodeId("n2")
NOW_MS = 1_700_000_000_000


def member(node: NodeId) -> Member:
    return Member(
        node=node,
        raft_id=RaftId(int(node[1:])),
        kind=Kind.DATA,
        address=Address(host="127.0.0.1", raft_port=8300),
        incarnation="aaaaaa",
    )


def drilled(kind: DrillKind) -> tuple[Facts, BeginDrill]:
    """A herd in term 4 that n1 leads, with a drill that has just begun."""
    begin = BeginDrill("d1", kind, node=N2, term=Term(4), via="proxy", requested_by="ann")
    facts = Facts(
        cluster="main",
        members={N1: member(N1), N2: member(N2)},
        phase=Phase.STABLE,
        term=Term(4),
        leader=MemberKey(N1, "aaaaaa"),
        level=LEVEL,
        drills=(
            Drill("d1", kind, "ann", N2, primary=N1, term=Term(4), via="proxy", began_at_ms=NOW_MS),
        ),
    )
    return facts, begin


def test_an_undone_switchover_was_none() -> None:
    """It begins a term, in which the old primary leads: no figure of a switchover."""
    facts, begin = drilled(DrillKind.SWITCHOVER)
    undone = replace(facts, term=Term(6), reason="the change of primary to n2 took too long")
    assert is_over(undone, begin)
    assert not_switched(undone, begin) == (
        "n1 is the primary still: the change of primary to n2 took too long"
    )
    done = replace(undone, leader=MemberKey(N2, "aaaaaa"))
    assert not_switched(done, begin) == ""


def test_after_a_kill_the_old_primary_may_lead_again() -> None:
    """Restarted in place: then that is what was measured."""
    facts, begin = drilled(DrillKind.KILL)
    assert not_switched(replace(facts, term=Term(5)), begin) == ""


def test_a_primary_is_killed_in_its_term_and_at_rest() -> None:
    """What people began since the drill was taken comes first."""
    facts, _ = drilled(DrillKind.KILL)
    [drill] = facts.drills
    assert cannot_kill(facts, drill) == ""
    assert "it is 5" in cannot_kill(replace(facts, term=Term(5)), drill)
    assert "electing" in cannot_kill(replace(facts, phase=Phase.ELECTING), drill)
    assert "mode async" in cannot_kill(replace(facts, mode=Mode.ASYNC), drill)
    assert cannot_kill(facts, replace(drill, kind=DrillKind.SWITCHOVER))
    assert cannot_kill(facts, None)
    paused, _ = apply_command(facts, Pause("p1", "ann", "night"), at_ms=NOW_MS)
    assert "paused by ann (night)" in cannot_kill(paused, drill)
    wish = SetMaintenance(node=N2, enabled=True, requested_by="ann", reason="fans")
    resting, _ = apply_command(facts, wish, at_ms=NOW_MS)
    assert cannot_kill(resting, drill) == "in maintenance: n2"


class FakeProbe:
    """Writes that are acknowledged at once."""

    newest = None

    async def __aenter__(self) -> FakeProbe:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    async def until_acknowledged(self, more: int) -> None:
        pass

    async def strike(self) -> None:
        pass


@pytest.mark.parametrize("why", ["paused by ann", ""])
def test_nothing_is_struck_when_something_came_in_the_way(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause, by the API's word; or another term, with another primary, by the ledger's."""
    facts, begin = drilled(DrillKind.SWITCHOVER)
    if not why:
        facts = replace(facts, term=Term(5))
    node: Any = SimpleNamespace(agent=SimpleNamespace(facts=facts))
    drilling = Drilling(node)
    struck: list[BeginDrill] = []

    async def strike(drill: BeginDrill) -> None:
        struck.append(drill)

    monkeypatch.setattr("pgherd.postgres.drilling.Probe", lambda *_: FakeProbe())
    monkeypatch.setattr(drilling, "_conninfo", lambda via: "")
    monkeypatch.setattr(drilling, "_strike", strike)
    with pytest.raises(OperatorError, match=f"nothing was changed: {why or 'the drill was for'}"):
        asyncio.run(drilling._measure(begin, lambda: why))
    assert not struck
