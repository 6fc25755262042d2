"""Looks at what this node itself needs: memory, and its ways to the others. Asked by any node.

Owns when: every LOOK_S, at a moment when the loop is awake anyway. A channel that carries something
is not tried with a connection of its own: the peer channel measures itself, and a replica that
streams reaches its upstream. Nothing is decided by it; people are warned (`model.vitals`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from pgherd.daemon.asking import Question
from pgherd.model.facts import Member
from pgherd.model.ids import Instant, NodeId
from pgherd.model.observation import Server
from pgherd.model.vitals import OOM_SAID_MS, Memory, Vitals
from pgherd.observe import memory
from pgherd.observe.reach import Reach
from pgherd.relay.tally import rss_bytes
from pgherd.telemetry.boottime import now_ms, until_next

if TYPE_CHECKING:
    from pgherd.daemon.agent import Agent
    from pgherd.daemon.build import Node

LOOK_S = 10.0
FIRST_S = 2.0
FIRST_LOOKS = 3
"""A node that has just started does not know the others yet, and looks sooner again."""
ASK_S = 3.0
VITALS = "vitals"
UP = (Server.PRIMARY, Server.STANDBY)


class Kills:
    """How many processes the kernel killed within the last hour, by its own counter."""

    def __init__(self) -> None:
        self._seen: deque[tuple[Instant, int]] = deque()

    def lately(self, total: int, *, now: Instant) -> int:
        """Take the counter as of now. What was before the first look is nobody's news."""
        self._seen.append((now, total))
        while now - self._seen[0][0] > OOM_SAID_MS:
            self._seen.popleft()
        return total - self._seen[0][1]


class VitalsWatch:
    """One node's. `now` is what was seen last."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._reach = Reach()
        self._kills = Kills()
        self._memory: Memory | None = None
        self._oom_kills = 0

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        for _ in range(FIRST_LOOKS):
            await self.look()
            await asyncio.sleep(until_next(FIRST_S))
        while True:
            await self.look()
            await asyncio.sleep(until_next(LOOK_S))

    async def look(self) -> None:
        """Once."""
        self._memory = memory.look()
        if self._memory is not None:
            self._oom_kills = self._kills.lately(self._memory.oom_kills, now=now_ms())
        others = [one for one in self._node.agent.facts.members.values() if one.node != self._me]
        self._reach.keep({(one.node, channel) for one in others for channel in channels(one)})
        self._look_at_peers(others)
        await self._reach.try_all(
            {
                (one.node, channel): where
                for one in others
                for channel, where in channels(one).items()
                if channel != "raft" and not self._carries(one.node, channel)
            }
        )

    def now(self) -> Vitals:
        """What was seen last, with what this process knows at any time."""
        process = {"agent": rss_bytes()}
        counters = self._node.control.counters() if self._node.control is not None else None
        if counters is not None:
            process["proxy"] = counters.rss_bytes
        return msgspec.structs.replace(self._outside(), process_bytes=process)

    def _outside(self) -> Vitals:
        return Vitals(memory=self._memory, peers=self._reach.seen(), oom_kills=self._oom_kills)

    def warnings(self, agent: Agent) -> list[str]:
        """What people should know; of a server that does not run nobody expects an answer."""
        fresh = {
            node: heard.report
            for node, heard in agent.reports.newest.items()
            if now_ms() - heard.at < agent.policy.detect_ms
        }
        expected = {(node, "api") for node in fresh}
        expected |= {
            (node, "postgresql") for node, report in fresh.items() if report.server.state in UP
        }
        return self._outside().warnings(expected=frozenset(expected))

    @property
    def _me(self) -> NodeId:
        return self._node.me

    def _look_at_peers(self, others: list[Member]) -> None:
        """What the channel of consensus knows by itself, and a stream of WAL."""
        up, took = self._node.peers.connected(), self._node.peers.rtt_s()
        why = self._node.peers.problems()
        for one in others:
            rtt_s = took.get(one.node)
            problem = "" if up.get(one.node) else why.get(one.node, "") or "no connection yet"
            rtt_ms = rtt_s * 1000 if rtt_s is not None else -1.0
            self._reach.note((one.node, "raft"), problem=problem, rtt_ms=rtt_ms)
            if self._carries(one.node, "postgresql"):
                self._reach.note((one.node, "postgresql"), problem="", rtt_ms=rtt_ms)

    def _carries(self, node: NodeId, channel: str) -> bool:
        """Whether WAL streams to us from there."""
        watch = self._node.watch
        receiver = watch.seen.receiver if watch is not None else None
        if receiver is None or channel != "postgresql":
            return False
        return receiver.status == "streaming" and receiver.upstream == node


def channels(member: Member) -> dict[str, tuple[str, int]]:
    """The ports of a member that other nodes have to reach."""
    address = member.address
    found = {"raft": address.raft(), "api": address.api(), "postgresql": address.postgres()}
    return {channel: where for channel, where in found.items() if where[1]}


Asked = Question[None, Vitals]


def attach(node: Node, watch: VitalsWatch) -> Asked:
    """The question after a node's vitals, as one node puts and answers it."""

    async def here(_: None) -> Vitals:
        return watch.now()

    return Question(
        VITALS,
        type(None),
        Vitals,
        me=node.me,
        here=here,
        ask=node.peers.request,
        timeout_s=ASK_S,
    )
