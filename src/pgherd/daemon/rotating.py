"""The first step of a change of a password: a new secret, which all data members have on disk.

Owns the order: nobody is told by the ledger what it does not know. What follows is the deciders'.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from pgherd.daemon import secretbook
from pgherd.daemon.asking import Ask
from pgherd.daemon.secretbook import GIVE_SECRET, SecretBook, fingerprint
from pgherd.ledger.commands import AnyCommand, Outcome, RotatePassword
from pgherd.model.credentials import Which, mark
from pgherd.model.errors import OperatorError, PeerError
from pgherd.model.facts import Facts, Kind
from pgherd.model.ids import NodeId

if TYPE_CHECKING:
    from pgherd.daemon.build import Node
    from pgherd.postgres.settings import ServerSettings

SECRET_BYTES = 32
GIVE_S = 5.0
SUBMIT_S = 10.0


class Rotation:
    """See the module's text. book: of this node, None where it has no server."""

    def __init__(
        self,
        *,
        me: NodeId,
        facts: Callable[[], Facts],
        book: SecretBook | None,
        ask: Ask,
        submit: Callable[[AnyCommand], Awaitable[Outcome]],
        is_private: bool,
    ) -> None:
        self._me = me
        self._facts = facts
        self._book = book
        self._ask = ask
        self._submit = submit
        self._is_private = is_private

    async def begin(self, which: Which, *, secret: str, overlap_ms: int, author: str) -> Outcome:
        """Give all data members a secret, then have the ledger name it. secret: "" for a new one.

        Raises OperatorError where a member does not take it: then nothing was changed.
        """
        if not self._is_private:
            raise OperatorError(
                "passwords are not sent between nodes without TLS", "set raft.tls on all nodes"
            )
        facts = self._facts()
        secret = secret or secrets.token_urlsafe(SECRET_BYTES)
        body = msgspec.msgpack.encode(secret)
        for node, member in sorted(facts.members.items()):
            if member.kind is Kind.DATA:
                await self._give(node, body)
        now = facts.credentials.get(which)
        generation = now.generation if now is not None else 0
        return await self._submit(
            RotatePassword(which, generation, fingerprint(secret), author, overlap_ms)
        )

    def look(self) -> None:
        """Have this node's server as of the ledger."""
        if self._book is not None:
            self._book.look()

    async def answer(self, kind: str, body: bytes) -> bytes:
        """Answer another member. Raises OperatorError."""
        if self._book is None:
            raise OperatorError(f"{self._me} has no server")
        return await (self._book.give(body) if kind == GIVE_SECRET else self._book.tell(body))

    async def reloaded(self, base: ServerSettings) -> ServerSettings:
        """The settings of a file that was read again, as of the ledger."""
        return await self._book.reloaded(base) if self._book is not None else base

    async def _give(self, node: NodeId, body: bytes) -> None:
        try:
            if node == self._me and self._book is not None:
                await self._book.give(body)
            else:
                await self._ask(node, GIVE_SECRET, body, timeout_s=GIVE_S)
        except (PeerError, OSError) as error:
            raise OperatorError(
                f"{node} did not take the new password, so nothing was changed: {error}",
                f"start {node}, or remove it: pgherd remove-node --name {node}",
            ) from error


def attach(node: Node) -> Rotation:
    """The beginning of changes on one node; and where passwords stand, for its server's roles."""
    if node.executor is not None:
        node.executor.hands.logins = lambda: mark(node.agent.facts.credentials)
    return Rotation(
        me=node.me,
        facts=lambda: node.agent.facts,
        book=secretbook.attach(node),
        ask=node.peers.request,
        submit=lambda command: node.port.submit(command, timeout_s=SUBMIT_S),
        is_private=node.settings.raft.tls is not None,
    )
