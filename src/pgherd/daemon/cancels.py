"""Cancels that clients ask this node's proxy for, done by the agent whose server is meant.

Owns the way there: our own server, or another node's agent through the peer channel. What may be
cancelled is `postgres.cancelling`'s. See docs/adr/0041-commit-wait.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pgherd.daemon.verifiers import Ask
from pgherd.model.errors import PgherdError, PostgresError
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
        self._me = me
        self._cancel = cancel
        self._ask = ask

    async def of(self, asked: CancelAsked) -> CancelTold:
        """What became of a cancel; problems are part of the answer."""
        try:
            if asked.node == self._me:
                seen = await self._here(asked.pid)
            else:
                body = msgspec.msgpack.encode(asked.pid)
                answer = await self._ask(asked.node, CANCEL, body, timeout_s=ASK_S)
                seen = msgspec.msgpack.decode(answer, type=Seen)
        except (PgherdError, msgspec.MsgspecError) as error:
            return CancelTold(asked.number, Cancelled.UNKNOWN, f"{asked.node}: {error}")
        outcome = Cancelled.WITHHELD if seen is Seen.WAITS else Cancelled.SENT
        return CancelTold(asked.number, outcome)

    async def answer(self, body: bytes) -> bytes:
        """Do what another node's agent asks for. Raises PostgresError."""
        return msgspec.msgpack.encode(await self._here(msgspec.msgpack.decode(body, type=int)))

    async def _here(self, pid: int) -> Seen:
        if self._cancel is None:
            raise PostgresError(f"{self._me} has no server")
        return await self._cancel(pid)


def attach(node: Node) -> Cancels:
    """The cancels of one agent process."""
    server = node.server
    cancel = partial(cancel_unless_waiting, server) if server is not None else None
    return Cancels(me=node.me, cancel=cancel, ask=node.peers.request)
