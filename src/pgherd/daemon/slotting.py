"""What this node's decider has to know of slots, and what the node warns of because of them.

Owns the gathering only; what follows is `plan.slotkeeping`'s, the words are `plan.slotadvice`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.model.ids import Instant
from pgherd.plan import slotadvice
from pgherd.plan.own import SlotsSeen

if TYPE_CHECKING:
    from pgherd.daemon.agent import Agent


def seen(agent: Agent, *, now: Instant) -> SlotsSeen:
    """As of the newest reports and the last look at the disk."""
    newest = agent.reports.newest.items()
    heard = frozenset(
        node
        for node, one in newest
        if node != agent.me and now - one.at < agent.policy.detect_ms and not one.report.witness
    )
    free = agent.watch.space.free_bytes if agent.watch is not None else -1
    return SlotsSeen(heard=heard, disk_free_bytes=free)


def warnings(agent: Agent, *, now: Instant) -> list[str]:
    """Of the disk, and of slots as they are here and at others."""
    if agent.watch is None:
        return []
    servers = {
        node: one.report.server
        for node, one in agent.reports.newest.items()
        if node != agent.me and now - one.at < agent.policy.detect_ms
    }
    servers[agent.me] = agent.watch.seen
    return [*agent.watch.space.warnings(), *slotadvice.warnings(agent.facts, servers, agent.me)]
