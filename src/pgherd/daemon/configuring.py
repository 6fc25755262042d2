"""What this node's decider has to know of parameters: what its server was told, how others run.

Owns the gathering only; what follows from it is `plan.configuring`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.model.ids import Instant
from pgherd.model.observation import Server
from pgherd.plan.own import ConfigSeen

if TYPE_CHECKING:
    from pgherd.daemon.agent import Agent

NOTHING = ConfigSeen()
RUNNING = (Server.PRIMARY, Server.STANDBY)


def seen(agent: Agent, *, now: Instant) -> ConfigSeen:
    """As of the newest reports; who is silent or down is not waited for (it starts with enough)."""
    if agent.executor is None or not agent.facts.config:
        return NOTHING
    fresh = {
        node: report.server
        for node, report in agent.reports.heard(within_ms=agent.policy.detect_ms, now=now).items()
        if node != agent.me and node in agent.facts.members
    }
    return ConfigSeen(
        parameters=agent.executor.hands.server.settings.cluster,
        others={node: one.matched for node, one in fresh.items() if one.state in RUNNING},
    )
