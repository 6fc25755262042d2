"""Each invariant of `herdchecks`, `registers` and `liveness` notices when it is broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from pgherd.model.facts import Facts, Floor, Phase, Reign
from pgherd.model.ids import Lsn, MemberKey, NodeId, Position, Term
from pgherd.raft.types import ConfState
from pgherd.sim.checks import Violation
from pgherd.sim.liveness import can_lose_its_primary, lose_the_primary, nothing_grows
from pgherd.sim.names import Names
from pgherd.sim.registers import Change, Registers
from pgherd.sim.run import begin
from pgherd.sim.world import Node, World


@pytest.fixture
def world() -> World:
    """Three members that live in calm; nothing has happened to them yet."""
    made = World(1)
    begin(made)
    return made


def known(world: World) -> Facts:
    facts = world.facts()
    assert facts is not None
    return facts


def leader(world: World) -> Node:
    key = known(world).leader
    assert key is not None
    return world.nodes[key.node]


def others(world: World) -> list[Node]:
    return [node for node in world.nodes.values() if node is not leader(world)]


def breaks(name: str, act: Callable[[], object]) -> None:
    with pytest.raises(Violation) as caught:
        act()
    assert caught.value.name == name


def key_of(node: Node) -> MemberKey:
    assert node.server.dir is not None
    return MemberKey(node.name, node.server.dir.incarnation)


def test_election_without_seals(world: World) -> None:
    """I14: a winner of which nobody who counts is sealed above its floor."""
    facts, winner = known(world), others(world)[0]
    term = Term(facts.term + 1)
    old = replace(facts, phase=Phase.ELECTING, term=term, elector=NodeId("n1"))
    reign = Reign(
        term=term,
        leader=key_of(winner),
        start=Position(facts.term, world.checks.tip.end if world.checks.tip else Lsn(0)),
        promoted=True,
        rule=305,
        reason="",
    )
    new = replace(old, phase=Phase.ESTABLISHING, leader=reign.leader, history=(*old.history, reign))
    breaks("I14", lambda: world.herd.on_facts(old, new))


def test_start_of_a_half_rewound_server(world: World) -> None:
    """I15: two histories lie in a directory, and it is started."""
    server = others(world)[0].server
    server.crash()
    assert server.dir is not None
    server.dir.half_rewound = True
    breaks("I15", server.start)


def test_gate_open_without_leading(world: World) -> None:
    """I16: an agent opens its server, which leads nothing."""
    server = others(world)[0].server
    breaks("I16", lambda: server.reload_names(Names("", term=known(world).term)))


def test_gate_open_for_an_old_term(world: World) -> None:
    """I16: the names are those of a term that is over."""
    old = Term(known(world).term - 1)
    breaks("I16", lambda: leader(world).server.reload_names(Names("", term=old)))


def test_set_with_a_member_below_its_floor(world: World) -> None:
    """I22: a copy that has not regained what it had before a rewind comes into the set."""
    facts, node = known(world), others(world)[0]
    assert node.agent is not None
    floor = Floor(Position(facts.term, Lsn(10**9)), fork_lsn=Lsn(100))
    node.agent.promises = replace(node.agent.promises, floor=floor)
    old = replace(facts.sync, voters=(), names=(), generation=facts.sync.generation - 1)
    new = replace(facts, sync=replace(facts.sync, voters=(key_of(node),)))
    breaks("I22", lambda: world.herd.on_facts(replace(facts, sync=old), new))


def test_voters_that_need_not_meet(world: World) -> None:
    """I23: two voters are exchanged at once."""
    confs = ConfState(voters=(1, 2, 3)), ConfState(voters=(1, 4, 5))
    breaks("I23", lambda: world.herd.on_conf(confs, NodeId("n1")))


def change(row: int, *, read: int, asked_at: int, acked_at: int | None) -> Change:
    made = Change(row=row, key=0, read=read, asked_at=asked_at)
    made.acked_at = acked_at
    return made


def problem(*changes: Change) -> str:
    """What is wrong with these, in the order of the WAL."""
    registers = Registers()
    registers.changes = {one.row: one for one in changes}
    return registers.problem([one.row for one in changes])


def test_register_reads_what_was_there() -> None:
    """I21: every change reads the one before it."""
    first = change(1, read=0, asked_at=0, acked_at=5)
    assert problem(first, change(2, read=1, asked_at=6, acked_at=9)) == ""
    assert "read 0" in problem(first, change(2, read=0, asked_at=6, acked_at=9))


def test_register_keeps_the_order_of_clients() -> None:
    """I21: what was acknowledged before another was asked for comes before it; others may not."""
    late = change(1, read=0, asked_at=6, acked_at=9)
    assert "acknowledged before" in problem(late, change(2, read=1, asked_at=1, acked_at=5))
    assert problem(late, change(2, read=1, asked_at=1, acked_at=None)) == ""
    assert problem(late, change(2, read=1, asked_at=1, acked_at=7)) == ""


def test_loss_of_a_primary_that_nobody_sees(world: World) -> None:
    """L4: the others stand still, so nobody takes over in time."""
    world.clock.run_until(world.clock.now + 5_000_000)
    assert can_lose_its_primary(world)
    for node in others(world):
        assert node.agent is not None
        node.agent.proc.paused = True
    breaks("L4", lambda: lose_the_primary(world))


def test_slot_of_nobody(world: World) -> None:
    """L5: a slot that no member uses keeps WAL for ever."""
    server = leader(world).server
    world.quiet = True
    world.clock.run_until(world.clock.now + 4_000_000)
    nothing_grows(world, since=known(world))
    assert server.dir is not None
    server.dir.slots = (*server.dir.slots, "pgherd_n77")
    breaks("L5", lambda: nothing_grows(world, since=known(world)))
