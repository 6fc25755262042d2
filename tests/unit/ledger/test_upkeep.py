"""What operators have in hand, as the ledger keeps it."""

from __future__ import annotations

from typing import Any

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.ledger.upkeep import ENDED_MAX
from pgherd.model.facts import Address, Facts, Kind, Member, Mode, Phase
from pgherd.model.ids import MemberKey, NodeId, RaftId, Term
from pgherd.model.upkeep import Stopped, Upkeep, Verb, WorkState

replace = msgspec.structs.replace

FACTS = Facts(cluster="main", level=5)


def taken(facts: Facts, command: cmd.AnyCommand, at_ms: int = 5) -> Facts:
    facts, outcome = apply_command(facts, command, at_ms=at_ms)
    assert isinstance(outcome, cmd.Done), outcome
    return facts


def refused(facts: Facts, command: cmd.AnyCommand) -> str:
    same, outcome = apply_command(facts, command, at_ms=5)
    assert same == facts
    assert isinstance(outcome, cmd.Refused), outcome
    return outcome.code


def test_a_pause_is_kept_and_told() -> None:
    """Who, why, since when and until when; a second one changes reason and end."""
    facts = taken(FACTS, cmd.Pause("p1", "ann", "switches", until_ms=90), at_ms=7)
    assert facts.paused
    facts = taken(facts, cmd.Pause("p2", "bob"), at_ms=8)
    found = facts.upkeep.pause
    assert found is not None
    assert (found.id, found.requested_by, found.since_ms, found.until_ms) == ("p2", "bob", 7, 0)
    assert [note.kind for note in facts.notes] == ["cluster.paused", "cluster.paused"]


def test_only_the_pause_that_was_meant_is_resumed() -> None:
    """The end of a pause that was prolonged meanwhile ends nothing."""
    facts = taken(taken(FACTS, cmd.Pause("p1", "ann")), cmd.Pause("p2", "ann"))
    assert refused(facts, cmd.Resume("p1", "over")) == "stale"
    assert not taken(facts, cmd.Resume("p2", "over")).paused


def test_older_programs_are_not_asked() -> None:
    """While a member's program is of before, nothing of this is taken."""
    facts, outcome = apply_command(Facts(cluster="main", level=4), cmd.Pause("p", "ann"), at_ms=1)
    assert isinstance(outcome, cmd.Refused)
    assert outcome.code == "too_new"
    assert not facts.paused


# --- work ----------------------------------------------------------------------------------------


def asked(id: str, verb: Verb = Verb.RESTART, node: str = "n2", **more: Any) -> cmd.AskWork:
    return cmd.AskWork(id=id, verb=verb, nodes=(NodeId(node),), requested_by="ann", **more)


def herd() -> Facts:
    """n1 leads a stable term; n2 and n3 hold data."""
    members = {
        NodeId(f"n{number}"): Member(
            node=NodeId(f"n{number}"),
            raft_id=RaftId(number),
            kind=Kind.DATA,
            address=Address(host="h", raft_port=number),
            incarnation=f"a{number}",
        )
        for number in (1, 2, 3)
    }
    leader = MemberKey(NodeId("n1"), "a1")
    return replace(FACTS, members=members, phase=Phase.STABLE, term=Term(1), leader=leader)


def test_only_so_much_that_ended_is_kept() -> None:
    """What is under way is never forgotten for what has ended."""
    known = taken(herd(), asked("open", node="n3"))
    for number in range(ENDED_MAX + 5):
        known = taken(known, asked(f"w{number}"))
        known = taken(known, cmd.EndWork(f"w{number}", WorkState.CANCELLED, "enough"))
    assert len(known.upkeep.works) == ENDED_MAX + 1
    assert known.upkeep.work("open") is not None
    assert known.upkeep.work("w4") is None


def test_a_late_step_changes_nothing() -> None:
    """Two Raft leaders may propose the same step; it is done once."""
    known = taken(herd(), asked("w1"))
    step = cmd.TakeInHand("w1", 0, NodeId("n2"), mark="7", text="restarts", rule=1101)
    known = taken(known, step)
    assert refused(known, step) == "stale"
    assert refused(known, cmd.CrossOff("w1", 0, rule=1103)) == "stale"
    known = taken(known, cmd.CrossOff("w1", 1, rule=1103))
    assert refused(known, cmd.EndWork("w1", WorkState.CANCELLED, "late")) == "has_ended"


def test_mode_strict_keeps_its_copies() -> None:
    """A copy that strict needs is neither stopped nor replaced, unless by force."""
    strict = replace(herd(), mode=Mode.STRICT, num_sync=2)
    assert refused(strict, asked("w1", Verb.STOP)) == "too_few_copies"
    assert refused(strict, asked("w1", Verb.REINIT)) == "too_few_copies"
    taken(strict, asked("w1", Verb.STOP, force=True))
    taken(replace(strict, num_sync=1), asked("w1", Verb.STOP))


def test_a_start_needs_no_stable_term() -> None:
    """The mark goes as the start is asked for: without that server there may be no term."""
    known = replace(herd(), upkeep=Upkeep(stopped={NodeId("n2"): Stopped("ann", 1)}))
    known = replace(known, phase=Phase.ELECTING)
    assert not taken(known, asked("w1", Verb.START)).upkeep.stopped
