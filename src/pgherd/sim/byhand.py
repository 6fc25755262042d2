"""Faults by people: a standby is promoted with pg_ctl, past pgherd, and somebody writes on it.

Its agent sees it, or is away and finds the server stopped, or running, when it comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pgherd.model.facts import Kind
from pgherd.model.observation import Server as State
from pgherd.sim.clock import MS, Task

if TYPE_CHECKING:
    from pgherd.sim.faults import Chaos
    from pgherd.sim.world import Node

WRITES_MAX = 120


def any_standby(chaos: Chaos) -> Node | None:
    """A node whose server is in recovery now, whatever the ledger says of it.

    One copy at a time, while all others are whole: two that are lost may have been all there were.
    """
    nodes = chaos.world.nodes.values()
    if any(not is_whole(node) for node in nodes if node.kind is Kind.DATA):
        return None
    found = [node for node in nodes if node.server.state is State.STANDBY]
    return chaos.rng.choice(found) if found else None


def is_whole(node: Node) -> bool:
    """Whether a node has its store, and a copy that no person and no rewind has spoilt."""
    server, promises = node.server, node.world.promises(node.name)
    spoilt = server.dir is None or server.by_hand or promises.dirty_rewind
    return not spoilt and not node.asks


def promote(chaos: Chaos, node: Node) -> None:
    """pg_ctl promote, and a direct client that does not wait for standbys."""
    node.server.promote(by_hand=True)
    node.server.by_hand = True
    server, proc, count = node.server, node.server.proc, chaos.rng.randrange(WRITES_MAX)

    def write() -> Task:
        while not server.primary:
            yield 10 * MS
        for _ in range(count):
            server.insert(chaos.world.next_row(), lambda _: None, local=True)
            yield (1 + chaos.rng.randrange(20)) * MS

    chaos.world.clock.spawn(proc, write())


def seen(chaos: Chaos) -> bool:
    """While its agent looks."""
    node = any_standby(chaos)
    if node is None:
        return False
    promote(chaos, node)
    return True


def unseen(chaos: Chaos) -> bool:
    """While its agent is away: stopped by hand again before that is back, killed, or left on."""
    node = any_standby(chaos)
    if node is None or node.agent is None:
        return False
    node.kill_agent()
    promote(chaos, node)
    server = node.server
    what: Callable[[], object] = chaos.rng.choice([server.stop_fast, server.crash, lambda: None])
    then = chaos.rng.randrange(300, 2_500)
    chaos.world.clock.after(then * MS, chaos.unless_over, what)
    chaos.later(then + 100, then + 9_000, node.boot)
    return True


KINDS: dict[str, Callable[[Chaos], bool]] = {
    "promoted.by.hand": seen,
    "promoted.by.hand.unseen": unseen,
}
