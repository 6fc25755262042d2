"""Looks at files and disks that may never come back, without waiting for them.

A look goes on a thread of its own that nobody joins, one at a time: a disk that hangs keeps that
one thread, and none of those on which the agent ends servers and reads what it decides by. While
one is out, the next ones are refused and not begun.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Looking:
    """The looks of one node."""

    def __init__(self) -> None:
        self._out: Future[Any] | None = None
        self._since = 0.0

    async def at(self, look: Callable[[], T], *, limit_s: float) -> T:
        """What a look sees. Raises TimeoutError, with words, and what the look raises."""
        if self._out is not None and not self._out.done():
            seconds = time.monotonic() - self._since
            raise TimeoutError(f"an earlier look has not come back for {seconds:.0f} s")
        found: Future[T] = Future()
        self._out, self._since = found, time.monotonic()
        waiting = asyncio.wrap_future(found)
        waiting.add_done_callback(heard)
        threading.Thread(target=into, args=(found, look), name="look", daemon=True).start()
        try:
            async with asyncio.timeout(limit_s):
                return await asyncio.shield(waiting)
        except TimeoutError as error:
            if found.done():
                raise  # the look's own
            raise TimeoutError(f"no answer of a disk in {limit_s:.0f} s") from error


def heard(late: asyncio.Future[T]) -> None:
    """What a look comes to after nobody waits for it any more is no news."""
    if not late.cancelled():
        late.exception()


def into(found: Future[T], look: Callable[[], T]) -> None:
    """The thread: whatever comes of it is told, to nobody where nobody waits any more."""
    try:
        found.set_result(look())
    except BaseException as error:
        found.set_exception(error)
