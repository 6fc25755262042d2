"""Whether this node still belongs to the cluster: asked of the peers, who may know better.

A removed node is told nothing more by consensus, so its own ledger goes on naming it as a member.
Raft ids are given once and never again: who knows of the id and has no member under it says that
the node was removed. Asked at every start, and whenever this node has not been led by a Raft leader
for a while. Once removed is removed for good; what follows from it is decided elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from pgherd.model.errors import PeerError
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId, RaftId
from pgherd.telemetry import logs
from pgherd.telemetry.boottime import until_next

log = logs.get("daemon")

FIRST_S = 0.1
FIRST_ROUNDS = 20
"""At a start it is urgent: returned after it was given up, a node must not vote with its like."""

ASK_S = 0.5
LED_S = 2.0
"""Between two looks while there is a leader and everybody has answered."""

ANSWER_S = 1.0
LEADERLESS_ROUNDS = 4
"""For so many rounds without a leader nobody is asked: elections happen."""


class Standing:
    """One node's place among the members."""

    def __init__(
        self,
        *,
        raft_id: RaftId,
        facts: Callable[[], Facts],
        is_led: Callable[[], bool],
        peers: Callable[[], Iterable[NodeId]],
        ask: Callable[[NodeId, RaftId, float], Awaitable[bool]],
        removed: Callable[[], None],
    ) -> None:
        self._raft_id = raft_id
        self._facts = facts
        self._is_led = is_led
        self._peers = peers
        self._ask = ask
        self._removed = removed
        self._answered: set[NodeId] = set()

    async def run(self) -> None:
        """For ever: ask while a doubt is left, and tell when it is certain."""
        rounds = leaderless = 0
        while not self._facts().was_removed(self._raft_id):
            leaderless = 0 if self._is_led() or rounds < FIRST_ROUNDS else leaderless + 1
            everybody = set(self._peers())
            asked = everybody if leaderless > LEADERLESS_ROUNDS else everybody - self._answered
            said = await asyncio.gather(*(self._asked(node) for node in sorted(asked)))
            if any(said):
                break
            rounds += 1
            await asyncio.sleep(until_next(self._pause_s(rounds, everybody)))
        log.warning("member.removed", raft_id=self._raft_id, next=NEXT)
        self._removed()
        await asyncio.Event().wait()

    def _pause_s(self, rounds: int, everybody: set[NodeId]) -> float:
        if everybody <= self._answered:
            return LED_S if self._is_led() else ASK_S
        return FIRST_S if rounds < FIRST_ROUNDS else ASK_S

    async def _asked(self, node: NodeId) -> bool:
        """Whether a peer says that we were removed; silence and refusals say nothing."""
        try:
            removed = await self._ask(node, self._raft_id, ANSWER_S)
        except PeerError:
            return False
        self._answered.add(node)
        return removed


NEXT = (
    "to use this machine again, move the node's directories away and join anew: pgherd join; if "
    "its Raft directory is an old copy of one that was re-admitted since: pgherd raft readmit"
)
