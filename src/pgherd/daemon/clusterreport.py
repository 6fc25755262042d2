"""`cluster.report`: now and then one line that says how things stand, as seen from this node.

Owns what is in it and what is counted since the last one. The one event that tells of no decision
(docs/adr/0061-what-a-node-tells.md): in memory it takes the place of the one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pgherd.model.event import Event
from pgherd.model.facts import Phase
from pgherd.telemetry import logs
from pgherd.telemetry.boottime import now_ms, unix_ms, until_next
from pgherd.telemetry.metrics import is_well

if TYPE_CHECKING:
    from pgherd.daemon.build import Node

log = logs.get("daemon")

REPORT = "cluster.report"


class ClusterReport:
    """One node's."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._before = (0, 0)
        self._routed: dict[str, dict[str, int]] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Tell again and again, as often as the settings in force say."""
        while True:
            interval_s = self._node.settings.log.report_interval_ms / 1000
            self._changed.clear()
            try:
                async with asyncio.timeout(until_next(interval_s) if interval_s else None):
                    await self._changed.wait()
            except TimeoutError:
                self.tell()

    def poke(self) -> None:
        """The interval may be another one."""
        self._changed.set()

    def tell(self) -> None:
        """Once."""
        fields = self.fields()
        facts = self._node.agent.facts
        text = ", ".join(f"{name} {value}" for name, value in fields.items())
        event = Event(
            at_ms=unix_ms(),
            node=self._node.me,
            kind=REPORT,
            text=text,
            term=facts.term,
            fields=fields,
        )
        self._node.journal.replace(event)
        log.info(REPORT, term=facts.term, **fields)

    def fields(self) -> dict[str, str]:
        """Primary, nodes, and this node's own clients."""
        facts = self._node.agent.facts
        stable = facts.phase is Phase.STABLE and facts.leader is not None
        primary = str(facts.leader.node) if stable and facts.leader is not None else "none"
        found = {"primary": primary, "nodes": " ".join(self._nodes())}
        counters = self._node.control.counters() if self._node.control is not None else None
        if counters is None:
            return found
        opened = sum(results.get("opened", 0) for results in counters.opened.values())
        queries = sum(sum(kinds.values()) for kinds in counters.queries.values())
        since = [grown(*pair) for pair in zip((opened, queries), self._before, strict=True)]
        self._before = opened, queries
        routed, self._routed = routes_since(counters.routed, self._routed), counters.routed
        return found | {
            "connections": str(sum(sum(each.values()) for each in counters.sessions.values())),
            "connections_opened": str(since[0]),
            "queries": str(since[1]),
            **routed,
        }

    def _nodes(self) -> list[str]:
        """Every member with how it is: well, unwell, or silent."""
        agent, found = self._node.agent, []
        heard = agent.heard()
        for node in sorted(agent.facts.members):
            one = heard.get(node)
            if one is None or now_ms() - one.at >= agent.policy.detect_ms:
                found.append(f"{node}=silent")
            else:
                found.append(f"{node}={'well' if is_well(one.report) else 'unwell'}")
        return found


def grown(now: int, before: int) -> int:
    """By how much; a proxy that was started anew counts from nothing."""
    return now - before if now >= before else now


def routes_since(
    now: Mapping[str, Mapping[str, int]], before: Mapping[str, Mapping[str, int]]
) -> dict[str, str]:
    """Of `route: auto`: for each route how many cycles went there, and of which kind; a route that
    never was used is not told of."""
    found = {}
    for route, kinds in sorted(now.items()):
        more = {kind: grown(n, before.get(route, {}).get(kind, 0)) for kind, n in kinds.items()}
        found[f"routed_{route}"] = " ".join(f"{kind}={n}" for kind, n in sorted(more.items()))
    return found
