"""Proves when a member may leave, what stops it, and that its Raft id is never given again."""

from __future__ import annotations

import msgspec
import pytest

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.ledger.levels import LEVEL, needed_level
from pgherd.model.facts import (
    Address,
    Facts,
    Kind,
    Member,
    Mode,
    Phase,
    Switchover,
    SyncState,
    SyncUse,
)
from pgherd.model.ids import Lsn, MemberKey, NodeId, Position, RaftId, Term

N1, N2, N3, W = NodeId("n1"), NodeId("n2"), NodeId("n3"), NodeId("w")
POSITION = Position(Term(3), Lsn(1))
replace = msgspec.structs.replace


def key(node: NodeId) -> MemberKey:
    return MemberKey(node, f"inc{node}")


def member(node: NodeId, number: int, *, kind: Kind = Kind.DATA) -> Member:
    return Member(
        node=node,
        raft_id=RaftId(number),
        kind=kind,
        address=Address(host=node, raft_port=8300),
        incarnation=key(node).incarnation if kind is Kind.DATA else "",
    )


def herd(*nodes: NodeId, mode: Mode = Mode.QUORUM) -> Facts:
    """Data members n1.. and a witness for w; n1 leads a stable term over the other data members."""
    members = {
        node: member(node, number, kind=Kind.WITNESS if node == W else Kind.DATA)
        for number, node in enumerate(nodes, start=1)
    }
    voters = tuple(key(node) for node in nodes if node not in (N1, W))
    k = 1 if voters else 0
    return Facts(
        cluster="main",
        members=members,
        next_raft_id=RaftId(len(nodes) + 1),
        phase=Phase.STABLE,
        term=Term(3),
        leader=key(N1),
        mode=mode,
        system_id="7",
        sync=SyncState(voters=voters, k=k, kd=k, r=len(voters), names=voters, names_k=k),
    )


def apply(facts: Facts, command: cmd.AnyCommand) -> tuple[Facts, cmd.Outcome]:
    return apply_command(facts, command, at_ms=1)


def code(facts: Facts, command: cmd.AnyCommand) -> str:
    after, outcome = apply(facts, command)
    assert isinstance(outcome, cmd.Refused), outcome
    assert after == facts, "a refusal changed something"
    return outcome.code


def leave(node: NodeId) -> cmd.AskLeave:
    return cmd.AskLeave(node, "somebody")


def test_a_member_leaves_and_its_id_is_gone() -> None:
    """Asked, out of the sync set, removed; asking twice is the same as once."""
    facts, outcome = apply(herd(N1, N2, N3), leave(N3))
    assert outcome == cmd.Done("3")
    assert facts.members[N3].leaving
    assert apply(facts, leave(N3)) == (facts, cmd.Done("3"))
    assert code(facts, cmd.RemoveMember(N3, RaftId(3))) == "in_use"
    facts = replace(facts, sync=herd(N1, N2).sync)
    facts, outcome = apply(facts, cmd.RemoveMember(N3, RaftId(3)))
    assert outcome == cmd.Done()
    assert set(facts.members) == {N1, N2}
    assert facts.was_removed(RaftId(3))
    assert not facts.was_removed(RaftId(2))
    assert not facts.was_removed(RaftId(4)), "never given yet"
    add = cmd.AddMember(N3, Kind.DATA, Address(host=N3, raft_port=8300))
    facts, outcome = apply(facts, add)
    assert outcome == cmd.Done("4")
    assert code(facts, cmd.RemoveMember(N3, RaftId(3))) == "unknown_node", "spares the namesake"


def test_a_set_that_walsenders_may_still_use_keeps_its_members() -> None:
    """An older configuration counts until the leader reports it settled."""
    facts, _ = apply(herd(N1, N2, N3), leave(N3))
    rest = herd(N1, N2).sync
    old = SyncUse(generation=0, names=(key(N3),), k=1)
    facts = replace(facts, sync=replace(rest, in_use=(old,)))
    assert code(facts, cmd.RemoveMember(N3, RaftId(3))) == "in_use"


def test_who_may_not_leave() -> None:
    """The primary, the target of a switchover, anybody during an election."""
    facts = herd(N1, N2, N3)
    assert code(facts, leave(N1)) == "is_primary"
    assert code(facts, leave(NodeId("n9"))) == "unknown_node"
    wish = Switchover(id="x", candidate=N2, requested_by="me", requested_at_ms=0)
    assert code(replace(facts, switchover=wish), leave(N2)) == "busy"
    assert code(replace(facts, phase=Phase.ELECTING), leave(N2)) == "not_stable"
    assert code(facts, cmd.RemoveMember(N2, RaftId(2))) == "not_leaving"


@pytest.mark.parametrize(("nodes", "told"), [((N1, N2), True), ((N1, N2, N3), False)])
def test_mode_strict_keeps_a_copy(nodes: tuple[NodeId, ...], told: bool) -> None:
    """In mode strict the last copy beside the primary stays; in mode quorum it may go."""
    facts = herd(*nodes, mode=Mode.STRICT)
    _, outcome = apply(facts, leave(N2))
    assert isinstance(outcome, cmd.Refused) is told
    assert apply(herd(*nodes), leave(N2))[1] == cmd.Done("2")
    assert apply(herd(N1, N2, W, mode=Mode.STRICT), leave(W))[1] == cmd.Done("3")


def test_no_removal_during_an_election() -> None:
    """An election counts with who was there when it began."""
    facts, _ = apply(herd(N1, N2, W), leave(W))
    facts = replace(facts, phase=Phase.ELECTING, elector=N2)
    assert code(facts, cmd.RemoveMember(W, RaftId(3))) == "not_stable"


def test_a_leaving_winner_stays() -> None:
    """Who had to be elected may be the only one with everything: the wish is void."""
    facts, _ = apply(herd(N1, N2, N3), leave(N2))
    begin = cmd.Begin(expected=Term(3), elector=N3, rule=203, reason="silent")
    facts, _ = apply(facts, begin)
    elect = cmd.Elect(
        term=Term(4),
        elector=N3,
        winner=key(N2),
        start=POSITION,
        promoted=True,
        voters=(key(N1),),
        k=1,
        rule=305,
        reason="it has everything",
    )
    facts, outcome = apply(facts, elect)
    assert outcome == cmd.Done()
    assert not facts.members[N2].leaving
    assert facts.notes[-1].kind == "member.stays"


def test_a_data_member_does_not_become_a_witness() -> None:
    """Its data may count; it leaves and joins anew."""
    facts = herd(N1, N2)
    address = facts.members[N2].address
    command = cmd.UpdateMember(N2, Kind.WITNESS, address, facts.members[N2].tags)
    assert code(facts, command) == "holds_data"
    moved = cmd.UpdateMember(N2, Kind.DATA, replace(address, raft_port=9), facts.members[N2].tags)
    facts, _ = apply(facts, moved)
    assert facts.members[N2].address.raft_port == 9


def test_a_proxy_node_is_let_in_without_a_vote_once_all_understand_it() -> None:
    """An older program could not read of it; a witness may become one, and one a witness."""
    facts = herd(N1, N2, N3)
    address = Address(host=W, raft_port=8300)
    add = cmd.AddMember(W, Kind.PROXY, address, level=LEVEL)
    assert needed_level(add) == 4
    assert needed_level(replace(add, kind=Kind.WITNESS)) == 1
    assert code(facts, add) == "too_new"
    facts, _ = apply(replace(facts, level=LEVEL), add)
    assert not facts.members[W].voter
    for kind in (Kind.WITNESS, Kind.PROXY):
        facts, outcome = apply(facts, cmd.UpdateMember(W, kind, address, add.tags, LEVEL))
        assert outcome == cmd.Done()
        assert facts.members[W].voter is (kind is Kind.WITNESS)
