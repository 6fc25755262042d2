"""What clients' passwords are checked with, for this node's proxy and for the agents of others.

Owns where it is looked up: in the primary, by its own agent, whoever asks; only while the primary
cannot be asked in the server of this node, which knows what it has replayed. Nothing is kept. See
docs/adr/0037-terminated-sessions.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from pgherd.daemon.asking import Ask, Question
from pgherd.model.errors import PgherdError, PostgresError
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId
from pgherd.postgres.passwords import Stored, read_passwords
from pgherd.relay.messages import Verifiers

if TYPE_CHECKING:
    from pgherd.daemon.build import Node

VERIFIERS = "verifiers"
ASK_S = 2.0


Read = Callable[[tuple[str, ...]], Awaitable[Stored]]
"""A server's own word (`postgres.passwords.read_passwords`)."""


class VerifierSource:
    """See the module's text. read: asks this node's server; None on a witness."""

    def __init__(
        self,
        *,
        me: NodeId,
        facts: Callable[[], Facts],
        read: Read | None,
        ask: Ask,
    ) -> None:
        self._me = me
        self._facts = facts
        self._read = read
        self._stored = Question(
            VERIFIERS, tuple[str, ...], Stored, me=me, here=read, ask=ask, timeout_s=ASK_S
        )
        self.answer = self._stored.answer

    async def of(self, users: tuple[str, ...]) -> Verifiers:
        """What these users' passwords are checked with, or why that is not known."""
        leader = self._facts().leader
        problem = "the cluster has no primary now"
        if leader is not None:
            try:
                return _told(users, await self._stored.at(leader.node, users))
            except PgherdError as error:
                problem = f"{leader.node}: {error}"
        if self._read is not None and (leader is None or leader.node != self._me):
            try:
                return _told(users, await self._read(users))
            except PostgresError as error:
                problem = f"{problem}; {self._me}: {error}"
        return Verifiers(users, problem=problem)


def _told(users: tuple[str, ...], found: Stored) -> Verifiers:
    return Verifiers(users, stored=found.stored, mock_nonce=found.mock_nonce)


def attach(node: Node) -> VerifierSource:
    """The verifiers of one agent process."""
    return VerifierSource(
        me=node.me,
        facts=lambda: node.agent.facts,
        read=partial(read_passwords, node.server) if node.server is not None else None,
        ask=node.peers.request,
    )
