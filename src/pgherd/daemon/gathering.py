"""The events that other nodes alone know of, brought into this node's journal when asked for.

Owns where each peer was asked last, and the rhythm while somebody follows: nothing is asked while
nobody does. An event that is known already is not told again, even if its node started anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from pgherd.daemon.asking import Ask
from pgherd.model.errors import PeerError
from pgherd.model.event import Event
from pgherd.model.ids import NodeId
from pgherd.telemetry.boottime import until_next
from pgherd.telemetry.journal import Journal

EVENTS = "events"
ASK_S = 2.0
EVERY_S = 1.0
TOLD_MAX = 500


class Asked(msgspec.Struct, frozen=True):
    """What comes after this number of the journal of this run."""

    run: str = ""
    number: int = 0


class Answer(msgspec.Struct, frozen=True):
    """What a node told itself, and where to ask on."""

    run: str
    number: int
    events: tuple[Event, ...]


class Gatherer:
    """One node's part in it, asking and answering."""

    def __init__(
        self,
        me: NodeId,
        journal: Journal,
        *,
        ask: Ask,
        connected: Callable[[], dict[NodeId, bool]],
    ) -> None:
        """connected: for each peer, whether our connection to it stands."""
        self.journal = journal
        self._me = me
        self._ask = ask
        self._connected = connected
        self._places: dict[NodeId, Asked] = {}
        self._followers = 0
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def answer(self, body: bytes) -> bytes:
        """What this node told after the place that a peer names."""
        asked = msgspec.msgpack.decode(body, type=Asked)
        number = asked.number if asked.run == self.journal.run else 0
        own = [
            entry.event
            for entry in self.journal.since(number)
            if entry.event.node == self._me and not entry.event.is_clusters
        ]
        answer = Answer(self.journal.run, self.journal.newest, tuple(own[-TOLD_MAX:]))
        return msgspec.msgpack.encode(answer)

    async def gather(self) -> None:
        """Ask every peer that is connected; who does not answer in time is left out."""
        async with self._turn:
            nodes = sorted(node for node, stands in self._connected().items() if stands)
            answers = await asyncio.gather(*(self._of(node) for node in nodes))
            for node, answer in zip(nodes, answers, strict=True):
                if answer is not None:
                    self._take(node, answer)

    @contextmanager
    def following(self) -> Iterator[None]:
        """While somebody follows the peers are asked again and again."""
        self._followers += 1
        if self._task is None:
            self._task = asyncio.create_task(self._often(), name="gather-events")
        try:
            yield
        finally:
            self._followers -= 1
            if not self._followers and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _often(self) -> None:
        while True:
            await self.gather()
            await asyncio.sleep(until_next(EVERY_S))

    async def _of(self, node: NodeId) -> Answer | None:
        body = msgspec.msgpack.encode(self._places.get(node, Asked()))
        try:
            raw = await self._ask(node, EVENTS, body, timeout_s=ASK_S)
            return msgspec.msgpack.decode(raw, type=Answer)
        except (PeerError, msgspec.MsgspecError):
            return None  # it is asked again from the same place

    def _take(self, node: NodeId, answer: Answer) -> None:
        before = self._places.get(node)
        self._places[node] = Asked(answer.run, answer.number)
        known: set[str] = set()
        if before is None or before.run != answer.run:
            known = {entry.event.id for entry in self.journal.since()}
        for event in answer.events:
            if event.node == node and not event.is_clusters and event.id not in known:
                self.journal.repeat(event)
