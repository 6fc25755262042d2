"""Prove when a member that lost its Raft store may come back, as what, and that it happens once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.ledger.machine import Ledger
from pgherd.ledger.readmission import Place, first_promises
from pgherd.model.facts import Address, Facts, Kind, Member, Phase, Reign, Switchover, SyncState
from pgherd.model.ids import Lsn, MemberKey, NodeId, Position, RaftId, Term

replace = msgspec.structs.replace
N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
KEYS = {node: MemberKey(node, f"a{node[1]}") for node in (N1, N2, N3)}
BACK = cmd.Readmit(N3, RaftId(3), "s9")
REIGN = Reign(Term(5), KEYS[N1], Position(Term(4), Lsn(9)), True, 305, "", established=True)


def member(number: int, **changes: Any) -> Member:
    made = Member(
        node=NodeId(f"n{number}"),
        raft_id=RaftId(number),
        kind=Kind.DATA,
        address=Address(host=f"h{number}", raft_port=1),
        incarnation=f"a{number}",
        store=f"s{number}",
    )
    return replace(made, **changes)


def facts(**changes: Any) -> Facts:
    """Three members in a stable term of n1; n2 and n3 are synchronous."""
    keys = (KEYS[N2], KEYS[N3])
    made = Facts(
        cluster="main",
        members={NodeId(f"n{one}"): member(one) for one in (1, 2, 3)},
        next_raft_id=RaftId(4),
        phase=Phase.STABLE,
        term=Term(5),
        leader=KEYS[N1],
        sync=SyncState(voters=keys, k=1, kd=1, r=2, names=keys, names_k=1, generation=4),
        history=(REIGN,),
    )
    return replace(made, **changes)


def alone(**changes: Any) -> Facts:
    """The same, degraded: n1 alone has every acknowledged commit."""
    return facts(sync=SyncState(generation=7), **changes)


def changed(node: NodeId, **changes: Any) -> Facts:
    known = facts()
    return replace(known, members={**known.members, node: replace(known.members[node], **changes)})


def apply(known: Facts, command: cmd.AnyCommand) -> tuple[Facts, cmd.Outcome]:
    return apply_command(known, command, at_ms=1)


def test_it_comes_back_as_somebody_else() -> None:
    """A new Raft id, a copy without a name; the old id is nobody's, the sync set as it was."""
    known, outcome = apply(facts(), BACK)
    assert outcome == cmd.Done("4")
    assert known.members[N3] == member(3, raft_id=RaftId(4), store="s9", incarnation="")
    assert known.was_removed(RaftId(3))
    assert not known.was_removed(RaftId(4))
    assert known.sync == facts().sync, "who may seal follows from the set's own steps"
    assert known.member(KEYS[N3]) is None, "its old copy counts for no election"
    assert known.notes[-1].kind == "member.readmitted"


def test_a_late_or_repeated_command_changes_nothing() -> None:
    """By its old Raft id, and by the ledger's own table of proposals."""
    known, _ = apply(facts(), BACK)
    again, outcome = apply(known, BACK)
    assert isinstance(outcome, cmd.Refused)
    assert again == known
    ledger = Ledger(facts())
    entry = ledger.encode(cmd.Proposal("c", 1, 0, BACK))
    first = ledger.apply(entry, index=7)
    after = ledger.facts
    assert ledger.apply(entry, index=8) == first
    assert ledger.facts == after
    assert after.next_raft_id == 5


@pytest.mark.parametrize(
    ("known", "code"),
    [
        (changed(N3, raft_id=RaftId(9)), "unknown_node"),
        (changed(N3, store="s9"), "same_store"),
        (changed(N3, leaving=True), "leaving"),
        (facts(switchover=Switchover("w", N3, "ann", 0)), "busy"),
        (facts(phase=Phase.ELECTING), "not_stable"),
        (facts(phase=Phase.ESTABLISHING), "not_stable"),
        (facts(leader=KEYS[N3]), "is_leader"),
        (facts(leader=KEYS[N3], phase=Phase.ELECTING), "is_leader"),
        (alone(leader=KEYS[N3], phase=Phase.ELECTING), "is_leader"),
    ],
)
def test_what_keeps_it_out(known: Facts, code: str) -> None:
    """An election may need its copy under its old name; a leader is followed by another first.

    The last: degraded under n3, whose reign is not the newest that is on record.
    """
    after, outcome = apply(known, BACK)
    assert isinstance(outcome, cmd.Refused)
    assert outcome.code == code
    assert after == known


ONE = (KEYS[N2],)
UNFINISHED = SyncState(voters=ONE, k=1, kd=0, r=2)
"""Elected by a degraded one: only n1 has what was acknowledged before, whoever streams from it."""


@pytest.mark.parametrize(
    "known",
    [
        alone(),
        alone(phase=Phase.ELECTING),
        facts(phase=Phase.ESTABLISHING, sync=UNFINISHED),
        facts(sync=SyncState(names=ONE, names_k=1, generation=8)),
        replace(changed(N3, incarnation="b3"), phase=Phase.ELECTING),
    ],
)
def test_who_alone_has_everything_keeps_its_copy(known: Facts) -> None:
    """Under another name of its copy nobody could ever lead again."""
    known, outcome = apply(known, cmd.Readmit(N1, RaftId(1), "s9"))
    assert isinstance(outcome, cmd.Done)
    assert known.members[N1].key == KEYS[N1] == known.leader
    assert known.members[N1].raft_id == 4


@pytest.mark.parametrize(
    "changes", [{"kind": Kind.WITNESS, "incarnation": ""}, {"incarnation": ""}]
)
def test_without_data_it_may_always_come_back(changes: dict[str, Any]) -> None:
    """Nothing is counted on it, whatever the phase is."""
    known = replace(changed(N3, **changes), phase=Phase.ELECTING)
    known, outcome = apply(known, BACK)
    assert isinstance(outcome, cmd.Done)
    assert known.members[N3].raft_id == 4


def test_a_raft_id_has_one_store() -> None:
    """Said once; the same again is harmless, another is refused."""
    known = changed(N3, store="")
    known, outcome = apply(known, cmd.RegisterStore(N3, RaftId(3), "s3"))
    assert isinstance(outcome, cmd.Done)
    assert known.members[N3].store == "s3"
    assert apply(known, cmd.RegisterStore(N3, RaftId(3), "s3"))[0] == known
    for wrong in (cmd.RegisterStore(N3, RaftId(3), "s4"), cmd.RegisterStore(N3, RaftId(9), "s3")):
        after, outcome = apply(known, wrong)
        assert isinstance(outcome, cmd.Refused)
        assert after == known


def test_an_older_ledger_is_read() -> None:
    """A snapshot of before knows no stores."""
    ledger = Ledger(facts())
    image = msgspec.msgpack.decode(ledger.snapshot())
    for one in image["facts"]["members"].values():
        del one["store"]
    ledger.restore(msgspec.msgpack.encode(image))
    assert {one.store for one in ledger.facts.members.values()} == {""}


PLACE = Place(term=Term(5), reign=Term(4), leader=KEYS[N1], stable=True, incarnation="")
STREAMS = (KEYS[N2], Term(5))


@pytest.mark.parametrize(
    ("followed", "changes", "is_known"),
    [
        (STREAMS, {}, True),
        (None, {}, False),
        ((KEYS[N2], Term(4)), {}, False),
        ((MemberKey(N2, "b2"), Term(5)), {}, False),
        ((KEYS[N3], Term(5)), {}, False),
        (STREAMS, {"stable": False}, False),
        (STREAMS, {"leader": None}, False),
        (STREAMS, {"leader": KEYS[N2]}, False),
    ],
)
def test_a_copy_is_used_only_when_its_own_files_say_whose_it_is(
    followed: tuple[MemberKey, Term] | None, changes: dict[str, Any], is_known: bool
) -> None:
    """The present leader's, in the present term, under this copy's name: nothing less.

    Whatever it is, its name is a new one, and it promises the ledger's term before anything.
    """
    found = first_promises(replace(PLACE, **changes), KEYS[N2], followed=followed, anew="c2")
    assert (found.promise, found.promise_elector, found.incarnation) == (5, None, "c2")
    assert found.dirty_rewind is not is_known
    assert found.adopted == (5 if is_known else 0)


def test_the_only_holder_knows_its_own_lineage() -> None:
    """By it the end of its WAL is told from an older leader's, also before its epoch record."""
    place = replace(PLACE, leader=KEYS[N2], stable=False, incarnation="a2")
    found = first_promises(place, KEYS[N2], followed=None, anew="c2")
    assert (found.incarnation, found.adopted, found.adopted_leader) == ("a2", 4, N2)
    assert not found.dirty_rewind
    other = first_promises(place, MemberKey(N2, "x2"), followed=None, anew="c2")
    assert (other.incarnation, other.dirty_rewind) == ("c2", True)
