"""What this node's decider has to know of slots, and what the node warns of because of them.

Owns the gathering only; what follows is `plan.slotkeeping`'s, the words are `plan.slotadvice`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.model.ids import Instant
from pgherd.plan import slotadvice, upstreams
from pgherd.plan.own import SlotsSeen

if TYPE_CHECKING:
    from pgherd.daemon.agent import Agent


def seen(agent: Agent, *, now: Instant) -> SlotsSeen:
    """As of the newest reports and the last look at the disk."""
    fresh = agent.reports.heard(within_ms=agent.policy.detect_ms, now=now)
    heard = frozenset(
        node for node, report in fresh.items() if node != agent.me and not report.witness
    )
    facts = agent.facts
    at = {
        node: report.server.position.lsn
        for node, report in fresh.items()
        if node in heard
        and upstreams.wish(facts, node) is not None
        and report.server.position is not None
        and upstreams.source(facts, report.server) is not None
    }
    free = agent.watch.space.free_bytes if agent.watch is not None else -1
    told = agent.reports.newest.items()
    nostream = frozenset(node for node, one in told if one.report.nostream)
    return SlotsSeen(heard=heard, at=at, disk_free_bytes=free, nostream=nostream)


def warnings(agent: Agent, *, now: Instant) -> list[str]:
    """Of the disk, and of slots as they are here and at others."""
    if agent.watch is None:
        return []
    fresh = agent.reports.heard(within_ms=agent.policy.detect_ms, now=now)
    servers = {node: report.server for node, report in fresh.items()}
    servers[agent.me] = agent.watch.seen
    return [*agent.watch.space.warnings(), *slotadvice.warnings(agent.facts, servers, agent.me)]
