"""A thread of its own for answers that take the processor longer than the agent's loop has.

Rehearsals of a large herd are one: several at a time would take the interpreter from the loop,
which holds leases, and the threads on which the agent reads files and ends servers are not for
viewers. One is worked out after the other, and who would wait for too many is told so at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pgherd.api.failures import Problem

WAITING_MAX = 16
"""Each takes tenths of a second at most: so many are an answer within seconds."""

T = TypeVar("T")


class Aside:
    """Answers one question at a time. They see values that nobody changes."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rehearsal")
        self._waiting = 0

    async def answer(self, question: Callable[[], T]) -> T:
        """Raises Problem where too many wait, and what the question raises."""
        if self._waiting >= WAITING_MAX:
            text = f"{WAITING_MAX} questions of this kind wait at this node"
            hint = "ask again in a few seconds, or another node"
            raise Problem(503, "busy", text, hint=hint, headers={"Retry-After": "2"})
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, question)
        finally:
            self._waiting -= 1
