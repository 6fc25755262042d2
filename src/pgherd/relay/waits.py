"""Cancel what a session runs, but not its wait for a standby to confirm a commit.

A cancel that hits that wait makes PostgreSQL report success for a commit that only the primary has.
So it is not sent by key: the primary's agent is asked, which looks and cancels in one statement. A
cancel that finds the wait is withheld: the statement is over as soon as a standby answers. Where
nobody can be asked in time it goes by key, and a session in which it does harm is closed
(`terminated`); see docs/adr/0041-commit-wait.md.

Owns the questions under way.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from pgherd.model.ids import NodeId
from pgherd.relay.cancel import cancel_on
from pgherd.relay.journal import say
from pgherd.relay.messages import CancelAsked, Cancelled, CancelTold
from pgherd.route.choose import Bound
from pgherd.wire.startup import CancelKey

ASK_LIMIT_S = 2.5

Send = Callable[[CancelAsked], None]


_NOBODY = CancelTold(0, Cancelled.UNKNOWN, "nobody was asked")


class Running(Protocol):
    """What is known of a session: its server, and the key that the server gave it."""

    bound: Bound | None
    key: CancelKey | None


class Waits:
    """Questions of this process. The link says when there is somebody to ask.

    errors: counts what was withheld, and what was not confirmed.
    """

    def __init__(self, errors: Counter[str]) -> None:
        self._errors = errors
        self._asked: dict[int, asyncio.Future[CancelTold | None]] = {}
        self._send: Send | None = None
        self._number = 0

    def connected(self, send: Send) -> None:
        """An agent is there."""
        self._send = send

    def lost(self) -> None:
        """It is gone, and nobody will answer."""
        self._send = None
        for future in self._asked.values():
            _set(future, None)

    def told(self, answer: CancelTold) -> None:
        """Take the agent's answer."""
        future = self._asked.get(answer.number)
        if future is not None:
            _set(future, answer)

    async def cancel(self, session: Running) -> bool:
        """Cancel what a session runs; False: something may still be on its way to the server.

        On a replica no commit waits: its key is enough.
        """
        bound, key = session.bound, session.key
        if bound is None or key is None:
            return True
        told: CancelTold | None = _NOBODY
        if bound.to_primary:
            told = await self._ask(bound.backend.name, key.pid)
        if told is not None and told.outcome is Cancelled.WITHHELD:
            self._errors["cancel_withheld"] += 1
        elif (told is None or told.outcome is Cancelled.UNKNOWN) and session.key is key:
            has_arrived = await cancel_on([bound.backend], key)
            return has_arrived and told is not None
        return told is not None

    def unconfirmed(self, bound: Bound | None) -> None:
        """A server acknowledged a commit whose wait was cancelled; it was not passed on."""
        self._errors["commit_unconfirmed"] += 1
        server = bound.backend.name if bound is not None else "unknown"
        say("commit.unconfirmed", server=server, why="its wait for a standby was cancelled")

    async def _ask(self, node: NodeId, pid: int) -> CancelTold | None:
        """The agent's answer; None: there was none, and it may cancel yet."""
        if self._send is None:
            return _NOBODY
        self._number += 1
        number = self._number
        self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._send(CancelAsked(number, node, pid))
            async with asyncio.timeout(ASK_LIMIT_S):
                answer = await self._asked[number]
        except TimeoutError:
            answer = None
        finally:
            del self._asked[number]
        if answer is None:
            say("cancel.unguarded", server=node, pid=pid, why=f"no answer within {ASK_LIMIT_S} s")
        elif answer.outcome is Cancelled.WITHHELD:
            say("cancel.withheld", server=node, pid=pid, why="it waits for a standby to confirm")
        elif answer.outcome is Cancelled.UNKNOWN:
            say("cancel.unguarded", server=node, pid=pid, why=answer.problem)
        return answer


def _set(future: asyncio.Future[CancelTold | None], answer: CancelTold | None) -> None:
    if not future.done():
        future.set_result(answer)
