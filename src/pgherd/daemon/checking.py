"""Parameters are checked by the primary's server, whoever is asked to set them.

Owns the way there and back; what is checked is `postgres.checking`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from pgherd.daemon.verifiers import Ask
from pgherd.model.errors import PeerError, PostgresError
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId
from pgherd.model.pgconfig import ConfigAsked, ConfigChecked

if TYPE_CHECKING:
    from pgherd.daemon.build import Node
    from pgherd.postgres.server import PostgresServer

CHECK_CONFIG = "check-config"
ASK_S = 15.0


class ConfigCheck:
    """See the module's text. server: of this node; None on a witness."""

    def __init__(
        self,
        *,
        me: NodeId,
        facts: Callable[[], Facts],
        server: PostgresServer | None,
        ask: Ask,
    ) -> None:
        self._me = me
        self._facts = facts
        self._server = server
        self._ask = ask

    async def of(self, asked: ConfigAsked) -> ConfigChecked:
        """What the primary's server says. Raises PostgresError, PeerError."""
        leader = self._facts().leader
        if leader is None:
            raise PostgresError("the cluster has no primary that could check them")
        if leader.node == self._me:
            return await self._here(asked)
        body = msgspec.msgpack.encode(asked)
        answer = await self._ask(leader.node, CHECK_CONFIG, body, timeout_s=ASK_S)
        try:
            return msgspec.msgpack.decode(answer, type=ConfigChecked)
        except msgspec.MsgspecError as error:
            raise PeerError(f"said something that is not understood: {error}") from error

    async def answer(self, body: bytes) -> bytes:
        """Answer another node's agent. Raises PostgresError."""
        return msgspec.msgpack.encode(
            await self._here(msgspec.msgpack.decode(body, type=ConfigAsked))
        )

    async def _here(self, asked: ConfigAsked) -> ConfigChecked:
        if self._server is None:
            raise PostgresError(f"{self._me} has no server")
        from pgherd.postgres import checking  # rarely needed

        return await checking.check(self._server, asked)


def attach(node: Node) -> ConfigCheck:
    """The check of one node."""
    return ConfigCheck(
        me=node.me,
        facts=lambda: node.agent.facts,
        server=node.server,
        ask=node.peers.request,
    )
