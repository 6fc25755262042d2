"""Cancels that clients ask this node's proxy for, done by the agent whose server is meant.

Owns what a client's cancel comes to. What may be cancelled is `postgres.cancelling`'s. See
docs/adr/0041-commit-wait.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from pgherd.daemon.asking import Ask, Question
from pgherd.model.errors import PgherdError
from pgherd.model.ids import NodeId
from pgherd.postgres.cancelling import Seen, cancel_unless_waiting
from pgherd.relay.messages import CancelAsked, Cancelled, CancelTold

if TYPE_CHECKING:
    from pgherd.daemon.build import Node

CANCEL = "cancel"
ASK_S = 2.0

Cancel = Callable[[int], Awaitable[Seen]]
"""Of this node's server (`postgres.cancelling.cancel_unless_waiting`)."""


class Cancels:
    """See the module's text. cancel: None on a witness."""

    def __init__(self, *, me: NodeId, cancel: Cancel | None, ask: Ask) -> None:
        self._seen = Question(CANCEL, int, Seen, me=me, here=cancel, ask=ask, timeout_s=ASK_S)
        self.answer = self._seen.answer

    async def of(self, asked: CancelAsked) -> CancelTold:
        """What became of a cancel; problems are part of the answer."""
        try:
            seen = await self._seen.at(asked.node, asked.pid)
        except PgherdError as error:
            return CancelTold(asked.number, Cancelled.UNKNOWN, f"{asked.node}: {error}")
        outcome = Cancelled.WITHHELD if seen is Seen.WAITS else Cancelled.SENT
        return CancelTold(asked.number, outcome)


def attach(node: Node) -> Cancels:
    """The cancels of one agent process."""
    server = node.server
    cancel = partial(cancel_unless_waiting, server) if server is not None else None
    return Cancels(me=node.me, cancel=cancel, ask=node.peers.request)
