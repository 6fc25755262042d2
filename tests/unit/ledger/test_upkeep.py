"""What operators have in hand, as the ledger keeps it."""

from __future__ import annotations

from typing import Any

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.ledger.levels import ACTIONS, DIRECTIVES, LEVEL, STARTS, needed_level
from pgherd.ledger.upkeep import ENDED_MAX
from pgherd.model.facts import Address, Facts, Handover, Kind, Member, Mode, Phase
from pgherd.model.ids import MemberKey, NodeId, RaftId, Term
from pgherd.model.upkeep import Stopped, Upkeep, Verb, WorkState

replace = msgspec.structs.replace

FACTS = Facts(cluster="main", level=LEVEL)


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


# --- a switchover, and the way into maintenance --------------------------------------------------


WISH = cmd.RequestSwitchover("s1", NodeId("n2"), "ann")


def test_a_switchover_is_work_and_ends_with_its_wish() -> None:
    """Refused, given up or cancelled: what became of it is kept, with the reason."""
    known = taken(replace(herd(), system_id="73"), WISH)
    assert known.upkeep.work("s1").state is WorkState.RUNNING
    said = taken(known, cmd.EndSwitchover("s1", "n2 is far behind")).upkeep.work("s1")
    assert (said.state, said.text) == (WorkState.FAILED, "n2 is far behind")
    lost = taken(known, cmd.Begin(Term(1), NodeId("n3"), rule=202, reason="n1 died"))
    assert (lost.upkeep.work("s1").state, lost.upkeep.work("s1").text) == (
        WorkState.FAILED,
        "n1 died",
    )
    cancel = cmd.EndWork("s1", WorkState.CANCELLED, "cancelled by ann")
    ended = taken(known, cancel)
    assert (ended.switchover, ended.upkeep.work("s1").state) == (None, WorkState.CANCELLED)
    handover = Handover("s1", NodeId("n2"))
    begun = taken(known, cmd.Begin(Term(1), NodeId("n3"), 603, "asked for", handover))
    assert begun.upkeep.work("s1").is_open
    assert refused(begun, cancel) == "too_late"


def test_a_switchover_of_before_is_no_work() -> None:
    """While a member's program is of before, all members keep the same facts."""
    known = taken(replace(herd(), level=ACTIONS - 1), WISH)
    assert not known.upkeep.works


def test_work_knows_its_term_and_is_forgotten() -> None:
    """What ended before a time goes, what is open stays; older programs know of neither."""
    now = replace(herd(), term=Term(4))
    facts = taken(taken(now, asked("w1")), cmd.EndWork("w1", WorkState.CANCELLED, "no"), at_ms=50)
    facts = taken(facts, asked("w2"), at_ms=60)
    assert [work.term for work in facts.upkeep.works] == [4, 4]
    assert len(taken(facts, cmd.ForgetWork(before_ms=50, rule=1206)).upkeep.works) == 2
    later = taken(facts, cmd.ForgetWork(before_ms=51, rule=1206))
    assert [work.id for work in later.upkeep.works] == ["w2"]
    older = taken(replace(now, level=DIRECTIVES - 1), asked("w1"))
    assert older.upkeep.works[0].term == 0
    assert needed_level(cmd.ForgetWork(before_ms=1, rule=1206)) == DIRECTIVES


def test_only_one_switchover_is_scheduled() -> None:
    """It names a data member or nobody, and a time; and no older program is asked to keep it."""
    later = {"verb": Verb.SWITCHOVER, "not_before_ms": 9}
    known = taken(herd(), asked("s1", **later))
    assert refused(known, asked("s2", **later)) == "busy"
    assert refused(herd(), asked("s1", node="n9", **later)) == "unknown_node"
    assert refused(herd(), asked("s1", Verb.SWITCHOVER)) == "invalid"
    taken(known, cmd.RequestSwitchover("s3", None, "bob"))  # one at once is not in its way
    assert needed_level(asked("s1", **later)) == ACTIONS


def test_what_is_for_later_keeps_nothing_waiting() -> None:
    """But twice the same for one node is a mistake."""
    known = taken(herd(), asked("w1", not_before_ms=9))
    assert refused(known, asked("w2", not_before_ms=10)) == "busy"
    known = taken(known, asked("w3"))
    assert refused(known, asked("w4", Verb.RELOAD)) == "busy"
    of_before = replace(taken(herd(), asked("w1", not_before_ms=9)), level=ACTIONS - 1)
    assert refused(of_before, asked("w2")) == "busy"


def test_a_stopped_server_starts_whatever_waits() -> None:
    """What waits for a stable term may wait for this server; only a node in hand is left alone."""
    stopped = Upkeep(stopped={NodeId("n2"): Stopped("ann", since_ms=1)})
    known = taken(replace(herd(), upkeep=stopped), asked("w1", Verb.REINIT, force=True))
    of_before = replace(known, level=ACTIONS - 1)
    assert refused(of_before, asked("w2", Verb.START)) == "busy"
    assert not taken(known, asked("w2", Verb.START)).upkeep.stopped
    step = cmd.TakeInHand("w1", 0, NodeId("n2"), "leaves", "copied anew", 1101)
    in_hand = replace(
        taken(known, step), upkeep=replace(taken(known, step).upkeep, stopped=stopped.stopped)
    )
    assert refused(in_hand, asked("w2", Verb.START)) == "busy"


def test_a_stop_that_was_asked_for_before_does_not_outlive_the_start() -> None:
    """It had its turn after the start was asked for; the start's turn takes the mark away again."""
    known = taken(herd(), asked("w1", Verb.STOP))
    known = taken(replace(known, upkeep=stopping(known)), asked("w2", Verb.START))
    known = taken(known, cmd.TakeInHand("w1", 0, NodeId("n2"), "7", "stop of n2", 1101))
    known = taken(known, cmd.CrossOff("w1", 1, 1103))
    assert NodeId("n2") in known.upkeep.stopped
    step = cmd.TakeInHand("w2", 0, NodeId("n2"), "0", "start of n2", 1101)
    assert NodeId("n2") not in taken(known, step).upkeep.stopped
    of_before = replace(known, level=STARTS - 1)
    assert NodeId("n2") in taken(of_before, step).upkeep.stopped


def stopping(facts: Facts) -> Upkeep:
    """Its server was stopped before as well."""
    return replace(facts.upkeep, stopped={NodeId("n2"): Stopped("ann", since_ms=1)})


def test_the_way_into_maintenance_is_work() -> None:
    """It is cancelled with the maintenance, and the maintenance with it."""
    rest = cmd.SetMaintenance(NodeId("n2"), True, "ann", until_ms=9, id="m1")
    known = taken(herd(), rest)
    assert known.upkeep.maintenance[NodeId("n2")].until_ms == 9
    assert known.upkeep.work("m1").state is WorkState.RUNNING
    back = taken(known, cmd.SetMaintenance(NodeId("n2"), False, "ann"))
    assert back.upkeep.work("m1").state is WorkState.CANCELLED
    undone = taken(known, cmd.EndWork("m1", WorkState.CANCELLED, "cancelled by ann"))
    assert not undone.upkeep.maintenance
    anew = taken(known, replace(rest, id="m2"))
    assert [work.id for work in anew.upkeep.open_works()] == ["m2"]
    taken(known, asked("w1", Verb.STOP))  # what it is for is not in its way
