"""What names mean in a database, for proxies that tell reads from writes.

Owns where it is looked up: in the primary, by its own agent, whoever asks. What is looked up is
`postgres.meanings`'. Nothing is kept here. See docs/adr/0065-reads-told-from-writes.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from pgherd.daemon.asking import Ask, Question
from pgherd.model.errors import PgherdError
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId
from pgherd.postgres.meanings import read_meanings
from pgherd.relay.messages import MeaningsAsked, MeaningsTold
from pgherd.route.meanings import Meanings

if TYPE_CHECKING:
    from pgherd.daemon.build import Node
    from pgherd.postgres.server import PostgresServer

MEANINGS = "meanings"
ASK_S = 4.0

Read = Callable[[MeaningsAsked], Awaitable[Meanings]]


class MeaningSource:
    """See the module's text. read: asks this node's server; None on a witness."""

    def __init__(
        self, *, me: NodeId, facts: Callable[[], Facts], read: Read | None, ask: Ask
    ) -> None:
        self._facts = facts
        self._question = Question(
            MEANINGS, MeaningsAsked, Meanings, me=me, here=read, ask=ask, timeout_s=ASK_S
        )
        self.answer = self._question.answer

    async def of(self, asked: MeaningsAsked) -> MeaningsTold:
        """What these names mean, or why that is not known."""
        leader = self._facts().leader
        if leader is None:
            return MeaningsTold(asked.database, problem="the cluster has no primary now")
        try:
            found = await self._question.at(leader.node, asked)
        except PgherdError as error:
            return MeaningsTold(asked.database, problem=f"{leader.node}: {error}")
        return MeaningsTold(asked.database, found)


async def _read(server: PostgresServer, asked: MeaningsAsked) -> Meanings:
    return await read_meanings(server.login, asked.database, asked.names)


def attach(node: Node) -> MeaningSource:
    """The source of one agent process."""
    read = partial(_read, node.server) if node.server is not None else None
    return MeaningSource(
        me=node.me, facts=lambda: node.agent.facts, read=read, ask=node.peers.request
    )
