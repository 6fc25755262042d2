"""The routing snapshot: from facts and reports to what the local proxy may do, with a deadline.

The deadline moves on only while the primary's agent is heard, and nothing speaks for another
primary (`plan.assurance`), so that a proxy cut off with an old one stops opening sessions to it.
`snapshot` is pure; `Routing` remembers until when that was so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import Instant, NodeId
from pgherd.model.observation import Heard, Server
from pgherd.plan import standbycluster
from pgherd.plan.assurance import is_assured
from pgherd.route.choose import Backend, Snapshot
from pgherd.telemetry.boottime import now_ms

if TYPE_CHECKING:
    from pgherd.daemon.agent import Agent

TRUST_MS = 3000
HOLD_SLACK_MS = 2000
"""Proxies hold so much longer than the herd waits: its decision has to reach them meanwhile."""


class Routing:
    """One node's. `now` is where its proxy may send sessions at this moment."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._assured_at = Instant(0)

    def now(self) -> Snapshot:
        """To be asked for at every change, and at least once a second."""
        agent, now = self._agent, now_ms()
        facts, newest = agent.facts, agent.reports.newest
        heard = newest.get(facts.leader.node) if facts.leader is not None else None
        knows = agent.consensus.replica.leader_node() is not None
        if is_assured(facts, heard.report if heard is not None else None, knows_leader=knows):
            self._assured_at = now
        return snapshot(
            facts,
            newest,
            me=agent.me,
            silent_after_ms=agent.policy.detect_ms,
            shunned=agent.split_brain.nodes,
            hold_until=Instant(agent.hold.since + agent.policy.hold_ms + HOLD_SLACK_MS),
            now=now,
            assured_at=self._assured_at,
        )


def snapshot(
    facts: Facts,
    reports: dict[NodeId, Heard],
    *,
    me: NodeId,
    silent_after_ms: int,
    shunned: frozenset[NodeId] = frozenset(),
    now: Instant,
    hold_until: Instant,
    assured_at: Instant,
) -> Snapshot:
    """Where sessions may go now.

    shunned: nodes that contradict the ledger (`plan.splitbrain`) · hold_until: how long clients are
    held, where a switchover holds them · assured_at: when the primary was last known to be the one.
    """
    leader = facts.leader
    heard = reports.get(leader.node) if leader is not None else None
    primary: Backend | None = None
    expires = now
    named = leader if leader is not None and leader.node not in shunned else None
    if facts.phase is Phase.STABLE and named is not None and heard is not None:
        host, port = facts.members[named.node].address.postgres()
        primary = Backend(name=named.node, host=host, port=port)
        expires = min(now if named.node == me else heard.at, assured_at)
    wish = facts.switchover if facts.phase is Phase.STABLE else None
    return Snapshot(
        generation=facts.term,
        term=facts.term,
        expires_at=Instant(expires + TRUST_MS),
        primary=primary,
        replicas=tuple(
            backend
            for backend in _replicas(facts, reports, silent_after_ms=silent_after_ms, now=now)
            if backend.name not in shunned
        ),
        hold=wish.id if wish is not None and wish.held else "",
        hold_until=hold_until,
        about=standbycluster.no_primary(facts),
    )


def _replicas(
    facts: Facts, reports: dict[NodeId, Heard], *, silent_after_ms: int, now: Instant
) -> tuple[Backend, ...]:
    follows = facts.follows is not None
    leader = facts.leader.node if facts.leader is not None else standbycluster.standby_leader(facts)
    if leader is None:
        return ()
    lead = reports.get(leader)
    end = lead.report.server.position if lead is not None else None
    found = []
    for node, heard in sorted(reports.items()):
        server = heard.report.server
        member = facts.members.get(node)
        if member is None or server.state is not Server.STANDBY:
            continue
        if node == leader and not follows:
            continue
        host, port = member.address.postgres()
        own = server.position
        lag = max(0, end.lsn - own.lsn) if end is not None and own is not None else None
        found.append(
            Backend(
                name=node,
                host=host,
                port=port,
                lag_bytes=lag,
                epoch=own.epoch if own is not None else 0,
                zone=member.tags.zone,
                tended=node in facts.upkeep.maintenance,
                usable=now - heard.at < silent_after_ms
                and server.healthy
                and not heard.report.noloadbalance
                and not facts.upkeep.spares(node),
            )
        )
    return tuple(found)
