"""Waiting for what nobody is told of: a count, a file of another process, a state within a task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

DEADLINE_S = 20.0
POLL_S = 0.005


async def until(condition: Callable[[], object], what: str = "what was waited for") -> None:
    """Wait until it holds, and say which one did not."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"not within {DEADLINE_S:g} s: {what}"
        await asyncio.sleep(POLL_S)
