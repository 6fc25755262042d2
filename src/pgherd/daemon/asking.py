"""A question that the agent of one node answers out of its own server, whoever asks.

Owns the way there and back: the server of this node, or another node's agent through the peer
channel, and the words for what goes wrong. Questions are never passed on. What is asked and
answered is its owner's (`verifiers`, `cancels`, `checking`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from pgherd.model.errors import PeerError, PostgresError
from pgherd.model.ids import NodeId

Asked = TypeVar("Asked")
Told = TypeVar("Told")


class Ask(Protocol):
    """Ask another node's agent."""

    def __call__(
        self, to: NodeId, kind: str, body: bytes, *, timeout_s: float
    ) -> Awaitable[bytes]: ...


class Question(Generic[Asked, Told]):
    """One kind of question. here: puts it to this node's server; None where there is none."""

    def __init__(
        self,
        kind: str,
        asks: type[Asked],
        tells: type[Told],
        *,
        me: NodeId,
        here: Callable[[Asked], Awaitable[Told]] | None,
        ask: Ask,
        timeout_s: float,
    ) -> None:
        self._kind = kind
        self._asks = asks
        self._tells = tells
        self._me = me
        self._here = here
        self._ask = ask
        self._timeout_s = timeout_s

    async def at(self, node: NodeId, asked: Asked) -> Told:
        """What a node's server says. Raises PostgresError, PeerError."""
        if node == self._me:
            return await self.here(asked)
        body = msgspec.msgpack.encode(asked)
        answer = await self._ask(node, self._kind, body, timeout_s=self._timeout_s)
        try:
            return msgspec.msgpack.decode(answer, type=self._tells)
        except msgspec.MsgspecError as error:
            raise PeerError(f"said something that is not understood: {error}") from error

    async def answer(self, body: bytes) -> bytes:
        """Answer another node's agent. Raises PostgresError."""
        return msgspec.msgpack.encode(
            await self.here(msgspec.msgpack.decode(body, type=self._asks))
        )

    async def here(self, asked: Asked) -> Told:
        """What this node's server says. Raises PostgresError."""
        if self._here is None:
            raise PostgresError(f"{self._me} has no server")
        return await self._here(asked)
