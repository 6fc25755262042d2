"""Bringing a primary to rest within a bounded time: closed names that count, or no server.

Each step is given a part of the time between the lease's deadline and its end for all others
(`model.demotion`); what does not work in its part is followed by something harder.
"""

from __future__ import annotations

import asyncio
import contextlib

from pgherd.act.hands import ActFailed, Hands
from pgherd.model import demotion
from pgherd.model.errors import PgherdError
from pgherd.postgres import admin
from pgherd.postgres.settings import CLOSED_NAMES

POLL_S = 0.01


async def hold_or_stop(hands: Hands) -> None:
    """Closed names that count at once, or no server: a checkpointer that syncs files is deaf."""
    try:
        async with asyncio.timeout(demotion.HOLD_MS / 1000):
            await hands.server.set_names(CLOSED_NAMES)
            await _commits_wait(hands)
    except (TimeoutError, PgherdError) as error:
        took = await stop_in_steps(hands)
        raise ActFailed(
            f"was stopped ({took}), for writes could not be held: {error or 'late'}"
        ) from error
    hands.at_rest()


async def stop_in_steps(hands: Hands) -> str:
    """Fast, immediate, SIGKILL of the whole tree, each for its time; what it took at last."""
    took = ""
    for step in demotion.STEPS:
        took = step.name
        if await hands.server.ends_within(step.name, step.limit_ms / 1000):
            break
    hands.at_rest()
    await hands.server.stop("immediate")
    return took


async def _commits_wait(hands: Hands) -> None:
    while True:
        with contextlib.suppress(admin.CommitDidNotWait):
            return await (await admin.commit_waits_probe(hands.server)).release()
        await asyncio.sleep(POLL_S)
