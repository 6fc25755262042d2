"""The act by which a server that starves gets the room of the ballast."""

from __future__ import annotations

import asyncio

from pgherd.act.hands import Hands, log
from pgherd.model import action as act
from pgherd.postgres import ballast


async def free_ballast(hands: Hands, a: act.FreeBallast) -> None:
    """Delete it; the watch makes a new one when there is plenty of room."""
    path = ballast.place_of(hands.server.data_dir)
    freed = await asyncio.to_thread(ballast.release, path)
    log.warning("ballast.freed", path=str(path), bytes=freed)
