"""Faults of herds that change their mode: an operator's wish, and a cut at that moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pgherd.ledger import commands as cmd
from pgherd.model.facts import Kind, Mode
from pgherd.sim.clock import SECOND
from pgherd.sim.netfaults import block

if TYPE_CHECKING:
    from pgherd.sim.faults import Chaos


def ask(chaos: Chaos, mode: Mode) -> bool:
    """An operator asks for a mode; False where nobody can take the order."""
    agent, facts = chaos.world.raft_leader(), chaos.world.facts()
    if agent is None or facts is None:
        return False
    return agent.propose(cmd.SetMode(mode, facts.num_sync, "chaos"))


def cut_while_asked(chaos: Chaos) -> bool:
    """Mode async is committed while the primary and one standby are cut off, and hear nothing."""
    world, facts = chaos.world, chaos.world.facts()
    leader = chaos.leader()
    if leader is None or facts is None or not facts.sync.voters:
        return False
    near = {leader.name, chaos.rng.choice(facts.sync.voters).node}
    links = [(a, b) for a in world.names for b in world.names if (a in near) != (b in near)]
    return ask(chaos, Mode.ASYNC) and block(chaos, links, low_ms=9_000, high_ms=15_000)


def lose_ahead(chaos: Chaos) -> bool:
    """The primary is heard by the witness alone for a while, and is lost then, far ahead."""
    world, leader = chaos.world, chaos.leader()
    if leader is None:
        return False
    data = [name for name, node in world.nodes.items() if node.kind is Kind.DATA]
    others = [(a, b) for a in data for b in data if leader.name in (a, b)]
    world.clock.after(3 * SECOND, lambda: None if chaos.over else leader.crash())
    chaos.later(9_000, 14_000, leader.boot)
    return block(chaos, others, low_ms=9_000, high_ms=14_000)


KINDS: dict[str, Callable[[Chaos], bool]] = {
    "mode.async": lambda c: ask(c, Mode.ASYNC),
    "mode.quorum": lambda c: ask(c, Mode.QUORUM),
    "mode.async.cut": cut_while_asked,
    "primary.lost.ahead": lose_ahead,
}
