"""Work that is due: it begins once, or fails with the reason; and maintenance ends in time."""

from __future__ import annotations

from typing import Any

import pytest
from plan_values import NOW, facts, late, look, primary, replace, report, sender, standby, sync

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.ledger.levels import LEVEL
from pgherd.model.facts import Facts, Switchover
from pgherd.model.ids import NodeId
from pgherd.model.observation import Heard
from pgherd.model.pgconfig import Pending
from pgherd.model.upkeep import Care, Pause, Upkeep, Verb, Work, WorkState
from pgherd.plan import herd
from pgherd.plan.schedules import GRACE_MS, LATE_MS

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
ALONE = (report(1, primary(senders=(sender(2),))), late(report(3, standby())))
"""n3 is gone: commits need n2."""


def due(verb: Verb, *nodes: NodeId, ago_ms: int = 0, **fields: Any) -> Facts:
    work = Work("w1", verb, nodes, "ann", asked_at_ms=1, not_before_ms=NOW - ago_ms)
    return facts(level=LEVEL, upkeep=Upkeep(works=(replace(work, **fields),)))


def decided(known: Facts, *reports: Heard) -> tuple[int, object]:
    seen = look(known, *reports)
    found = herd.decide(known, view=seen.view, policy=seen.policy, now=NOW)
    return found.rule, found.command


def taken(known: Facts, command: object) -> Facts:
    after, outcome = apply_command(known, command, at_ms=NOW)  # type: ignore[arg-type] # decided
    assert isinstance(outcome, cmd.Done), outcome
    return after


def failure(found: tuple[int, object]) -> str:
    rule, end = found
    assert rule == 1111, found
    assert isinstance(end, cmd.EndWork)
    assert end.state is WorkState.FAILED
    return end.text


def test_a_switchover_begins_when_it_is_due_and_once() -> None:
    """Not a moment early; a second Raft leader's wish for the same is refused."""
    assert decided(due(Verb.SWITCHOVER, N2, ago_ms=-1))[1] is None
    known = due(Verb.SWITCHOVER, N2)
    rule, wish = decided(known)
    assert (rule, wish) == (1110, cmd.RequestSwitchover("w1", N2, "ann"))
    begun = taken(known, wish)
    assert begun.switchover is not None
    assert begun.upkeep.works[0].state is WorkState.RUNNING
    over = taken(begun, cmd.EndSwitchover("w1", "switchover refused: n2 is far behind"))
    [work] = over.upkeep.works
    assert (work.state, work.text) == (WorkState.FAILED, "switchover refused: n2 is far behind")
    _, outcome = apply_command(over, wish, at_ms=NOW)  # type: ignore[arg-type] # decided above
    assert isinstance(outcome, cmd.Refused)
    assert outcome.code == "has_ended"


@pytest.mark.parametrize("verb", [Verb.SWITCHOVER, Verb.RESTART])
def test_nothing_that_was_scheduled_begins_in_a_pause(verb: Verb) -> None:
    """Nobody is there who could say that it is meant all the same."""
    known = due(verb, N2)
    pause = Pause("p1", "bob", "switches", since_ms=1)
    known = replace(known, upkeep=replace(known.upkeep, pause=pause))
    assert failure(decided(known)) == "the cluster is paused by bob (switches)"


def test_what_cannot_be_any_more_fails_at_once() -> None:
    """Its candidate leads already, or is no member; a stop or a copy is not for the primary."""
    assert failure(decided(due(Verb.SWITCHOVER, N1))) == "n1 is the primary"
    assert failure(decided(due(Verb.REINIT, N1, force=True))) == "n1 is the primary"
    gone = NodeId("n9")
    assert failure(decided(due(Verb.SWITCHOVER, gone))) == "n9 is no member any more"


def test_a_restart_that_commits_could_not_survive_waits_a_little_and_fails() -> None:
    """What may pass is waited for; with force it is done all the same."""
    waits = decided(due(Verb.RESTART, N2), *ALONE)[1]
    assert not isinstance(waits, cmd.TakeInHand | cmd.EndWork)
    why = failure(decided(due(Verb.RESTART, N2, ago_ms=GRACE_MS), *ALONE))
    assert "nobody would be left" in why
    all_of_them = due(Verb.RESTART, N1, N2, N3, ago_ms=GRACE_MS, rolling=True)
    assert "n3 does not stream" in failure(decided(all_of_them, *ALONE))
    forced = decided(due(Verb.RESTART, N2, force=True), *ALONE)
    assert isinstance(forced[1], cmd.TakeInHand)
    assert isinstance(decided(due(Verb.RESTART, N2))[1], cmd.TakeInHand)


def test_who_is_late_is_not_wanted_any_more() -> None:
    """A herd that had something else to do all the time does not switch over hours later."""
    other = Switchover("w0", N3, "bob", requested_at_ms=1)
    soon = replace(due(Verb.SWITCHOVER, N2, ago_ms=LATE_MS - 1), switchover=other)
    assert decided(soon)[0] != 1111
    waiting = replace(due(Verb.SWITCHOVER, N2, ago_ms=LATE_MS), switchover=other)
    assert "could not begin" in failure(decided(waiting))


def test_work_does_not_begin_beside_other_work_with_the_same_node() -> None:
    """What was asked for meanwhile goes first; then what was scheduled has its turn."""
    known = due(Verb.RESTART, N2, N3)
    other = Work("w2", Verb.RESTART, (N3,), "bob", 1, state=WorkState.RUNNING, node=N3, mark="0")
    other = replace(other, stepped_at_ms=NOW)
    both = replace(known, upkeep=Upkeep(works=(*known.upkeep.works, other)))
    seen = decided(both, report(3, replace(standby(pid=0))))
    assert not isinstance(seen[1], cmd.TakeInHand)
    take = cmd.TakeInHand("w1", 0, N2, mark="7", text="restart", rule=1101)
    _, outcome = apply_command(both, take, at_ms=NOW)
    assert isinstance(outcome, cmd.Refused)
    assert outcome.code == "busy"


def test_only_who_waits_for_a_restart_has_a_turn() -> None:
    """The rest is passed over, and with the last one the work is done."""
    known = due(Verb.RESTART, N2, N3, only_pending=True, rolling=True)
    waiting = report(3, standby(pending=(Pending("shared_buffers", "128MB", "1GB"),)))
    rule, passes = decided(known, waiting)
    assert (rule, passes) == (1114, cmd.CrossOff("w1", 0, rule=1114, passes=N2))
    known = taken(known, passes)
    take = decided(known, waiting)[1]
    assert isinstance(take, cmd.TakeInHand)
    assert take.node == N3
    nobody = taken(known, decided(known)[1])
    assert nobody.upkeep.works[0].state is WorkState.DONE


def test_maintenance_ends_in_time_and_only_the_one_that_was_meant() -> None:
    """One that was asked for anew meanwhile has another beginning."""
    care = Care("ann", "disk", since_ms=1, until_ms=NOW + 1)
    known = facts(level=LEVEL, upkeep=Upkeep(maintenance={N2: care}))
    assert not isinstance(decided(known)[1], cmd.EndMaintenance)
    known = facts(level=LEVEL, upkeep=Upkeep(maintenance={N2: replace(care, until_ms=NOW)}))
    rule, over = decided(known)
    assert rule == 1112
    assert not taken(known, over).upkeep.maintenance
    anew = facts(level=LEVEL, upkeep=Upkeep(maintenance={N2: replace(care, since_ms=2)}))
    _, outcome = apply_command(anew, over, at_ms=NOW)  # type: ignore[arg-type] # decided above
    assert isinstance(outcome, cmd.Refused)


def test_a_node_is_in_maintenance_once_no_commit_counts_on_it() -> None:
    """While commits need it the action goes on, and says so."""
    known = due(Verb.MAINTENANCE, N2, not_before_ms=0, state=WorkState.RUNNING)
    known = replace(known, upkeep=replace(known.upkeep, maintenance={N2: Care("ann", "", 1)}))
    assert decided(known)[0] != 1113
    rule, end = decided(replace(known, sync=sync(3)))
    assert (rule, type(end)) == (1113, cmd.EndWork)
    assert taken(known, end).upkeep.works[0].state is WorkState.DONE
