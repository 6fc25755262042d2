"""Faults that lie in wait: they strike in the middle of the next act, command or record of a kind.

Plain chance would seldom hit there. Events come from `World.on_event`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pgherd.ledger import commands as cmd
from pgherd.model import action as act
from pgherd.model.ids import NodeId
from pgherd.sim.clock import MS
from pgherd.sim.strikes import crash_node, kill_agent, kill_postmaster, pause_agent, pause_node
from pgherd.sim.wal import Record

if TYPE_CHECKING:
    from pgherd.sim.faults import Chaos
    from pgherd.sim.world import Node

Strike = Callable[["Chaos"], bool]
Weapon = Callable[["Chaos", "Node"], bool]
WEAPONS: tuple[Weapon, ...] = (crash_node, kill_postmaster, kill_agent, pause_agent)


def the_doer(chaos: Chaos, node: NodeId, event: Any) -> NodeId:
    return node


def the_winner(chaos: Chaos, node: NodeId, event: Any) -> NodeId:
    """Of an election that was just proposed."""
    return NodeId(event.winner.node)


def the_primary(chaos: Chaos, node: NodeId, event: Any) -> NodeId:
    leader = chaos.leader()
    return leader.name if leader is not None else node


def ambush(
    name: str,
    kinds: tuple[type[object], ...],
    *,
    low_ms: int,
    high_ms: int,
    weapons: tuple[Weapon, ...] = WEAPONS,
    victim: Callable[[Chaos, NodeId, Any], NodeId] = the_doer,
) -> Strike:
    """Crash a node, kill its server or its agent, or let it stand still, soon after an event.

    Counts as a fault when it strikes, not when it is laid.
    """

    def lay(chaos: Chaos) -> bool:
        weapon = chaos.rng.choice(weapons)

        def watch(node: NodeId, event: object) -> None:
            if not isinstance(event, kinds) or watch not in chaos.world.watchers:
                return
            chaos.world.watchers.remove(watch)
            delay = chaos.rng.randrange(low_ms, high_ms) * MS
            struck = chaos.world.nodes[victim(chaos, node, event)]
            chaos.world.clock.after(delay, spring, weapon, struck)

        def spring(weapon: Weapon, node: Node) -> None:
            if not chaos.over and weapon(chaos, node):
                chaos.count(name)

        chaos.world.watchers.append(watch)
        return False

    return lay


def table(*rows: tuple[str, tuple[type[object], ...], int, int]) -> dict[str, Strike]:
    return {name: ambush(name, kinds, low_ms=low, high_ms=high) for name, kinds, low, high in rows}


FIRST = table(
    ("ambush.promote", (act.Promote, act.KeepLeading), 0, 400),
    ("ambush.seal", (act.Seal, act.CloseGate), 0, 100),
    ("ambush.names", (act.SetNames, act.Settle), 0, 200),
    ("ambush.follow", (act.Follow, act.Rewind, act.Rebuild), 0, 1500),
    ("ambush.handover", (act.DrainAndStop, act.Checkpoint), 0, 300),
)

KINDS: dict[str, Strike] = {
    "ambush.elector": ambush(
        "ambush.elector",
        (cmd.Begin, cmd.Elect, cmd.Establish),
        low_ms=0,
        high_ms=60,
        weapons=(crash_node, kill_agent, pause_agent),
    ),
    "ambush.winner": ambush(
        "ambush.winner", (cmd.Elect,), low_ms=0, high_ms=150, victim=the_winner
    ),
    "ambush.epoch": ambush(
        "ambush.epoch", (Record,), low_ms=0, high_ms=120, weapons=(*WEAPONS, pause_node)
    ),
    "ambush.sync": ambush(
        "ambush.sync", (cmd.ChangeSync,), low_ms=0, high_ms=100, victim=the_primary
    ),
    **table(
        ("ambush.rewind", (act.Rewind,), 50, 2500),
        ("ambush.rebuild", (act.Rebuild,), 0, 4000),
    ),
}
