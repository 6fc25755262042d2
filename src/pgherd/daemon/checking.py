"""Parameters are checked by the primary's server, whoever is asked to set them.

Owns whom they are put to; what is checked is `postgres.checking`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pgherd.daemon.asking import Ask, Question
from pgherd.model.errors import PostgresError
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
        self._facts = facts
        here = checker(server) if server is not None else None
        self._checked = Question(
            CHECK_CONFIG, ConfigAsked, ConfigChecked, me=me, here=here, ask=ask, timeout_s=ASK_S
        )
        self.answer = self._checked.answer

    async def of(self, asked: ConfigAsked) -> ConfigChecked:
        """What the primary's server says. Raises PostgresError, PeerError."""
        leader = self._facts().leader
        if leader is None:
            raise PostgresError("the cluster has no primary that could check them")
        return await self._checked.at(leader.node, asked)


def checker(server: PostgresServer) -> Callable[[ConfigAsked], Awaitable[ConfigChecked]]:
    """The check by one server."""

    async def check(asked: ConfigAsked) -> ConfigChecked:
        from pgherd.postgres import checking  # rarely needed

        return await checking.check(server, asked)

    return check


def attach(node: Node) -> ConfigCheck:
    """The check of one node."""
    return ConfigCheck(
        me=node.me,
        facts=lambda: node.agent.facts,
        server=node.server,
        ask=node.peers.request,
    )
