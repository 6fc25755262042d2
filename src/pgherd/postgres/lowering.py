"""Becoming primary with less of a parameter that standbys must match than the last primary had.

A standby with less than its WAL demands does not start, and every server of ours starts as one; so
a lower value would never come. Without hot standby PostgreSQL does not check: the server starts
anew, takes no session, replays the same local WAL to the same end, and is promoted there by the
signal that pg_ctl uses. What it has is then what its WAL demands of others, which may follow down.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from pgherd.model.errors import PostgresError
from pgherd.postgres import processes
from pgherd.postgres.files import read_text, tail, write_atomic

if TYPE_CHECKING:
    from pgherd.postgres.server import PostgresServer

PROMOTE_FILE = "promote"
LIMIT_S = 30.0
POLL_S = 0.03
REPLAYS = "standby"
"""In postmaster.pid of a server that replays and takes no session."""
NO_HOT_STANDBY = {"hot_standby": "off"}


async def promote_lower(server: PostgresServer) -> None:
    """From a sealed standby to a primary with lower values; its parameters are in its settings."""
    server.replaced = True
    try:
        await server.stop("fast", timeout_s=LIMIT_S)
        offset = server.log_file.stat().st_size
        await server.start(deadline_s=0, lower=True)
        async with asyncio.timeout(LIMIT_S):
            while not (await server.probe()).is_alive:
                if not server.is_running():
                    said = await asyncio.to_thread(tail, server.log_file, offset=offset)
                    raise PostgresError(f"it ended before it was promoted: {said}")
                await asyncio.to_thread(_ask, server)
                await asyncio.sleep(POLL_S)
        (recovering,) = await server.acting.row("SELECT pg_is_in_recovery()")
        if recovering:
            raise PostgresError("it takes sessions and is no primary")
    except TimeoutError as error:
        raise PostgresError(f"it was not promoted within {LIMIT_S:g} s") from error
    finally:
        server.replaced = False


def _ask(server: PostgresServer) -> None:
    """As pg_ctl promote does, once it replays: the signal would end a postmaster before that.

    A postmaster removes the file of before its start.
    """
    file = processes.parse_pid_file(read_text(server.data_dir / "postmaster.pid"))
    if file is None or (file.pid, file.status) != (server.pid, REPLAYS):
        return
    write_atomic(server.data_dir / PROMOTE_FILE, "", user=server.user, durable=False)
    processes.send(server.pid, signal.SIGUSR1, data_dir=server.data_dir)
