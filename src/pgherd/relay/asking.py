"""Ask the agent what clients' passwords are checked with.

Owns the questions under way. Nothing is kept: every login asks, so that a changed password counts
at once and no verifier lies about in this process. All logins that wait for an answer share the
next question, and only one is under way: however many clients come, the agent has one to answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pgherd.relay.messages import Verifiers, VerifiersAsked

USERS_PER_QUESTION = 100

Send = Callable[[VerifiersAsked], None]


class Asker:
    """Questions of this process. The link says when there is somebody to ask."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Future[Verifiers]]] = {}
        self._asked: dict[str, list[asyncio.Future[Verifiers]]] = {}
        self._send: Send | None = None

    async def ask(self, user: str) -> Verifiers:
        """The answer to a question that was begun after this call; may take as long as it takes."""
        future: asyncio.Future[Verifiers] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user, []).append(future)
        self._go_on()
        return await future

    def connected(self, send: Send) -> None:
        """An agent is there."""
        self._send = send
        self._go_on()

    def lost(self) -> None:
        """It is gone; what it was asked is asked again."""
        self._send = None
        for user, futures in self._asked.items():
            self._waiting.setdefault(user, []).extend(futures)
        self._asked = {}

    def answered(self, answer: Verifiers) -> None:
        """Take the agent's answer."""
        asked, self._asked = self._asked, {}
        for futures in asked.values():
            for future in futures:
                if not future.done():
                    future.set_result(answer)
        self._go_on()

    def _go_on(self) -> None:
        if self._asked or self._send is None:
            return
        for user in list(self._waiting):
            alive = [future for future in self._waiting.pop(user) if not future.done()]
            if alive:
                self._asked[user] = alive
            if len(self._asked) >= USERS_PER_QUESTION:
                break
        if self._asked:
            self._send(VerifiersAsked(tuple(self._asked)))
