"""Actuators of the mild remedies: another walreceiver, the upstream named anew."""

from __future__ import annotations

import asyncio

from pgherd.act.following import follow
from pgherd.act.hands import ActFailed, Hands, log
from pgherd.model import action as act
from pgherd.postgres import conf

GONE_MS = 3000


async def restart_receiver(hands: Hands, a: act.RestartReceiver) -> None:
    """End the receiver; the startup process asks for another one at once."""
    rows = await hands.server.acting.rows(
        "SELECT pid, pg_terminate_backend(pid, $1) FROM pg_stat_wal_receiver WHERE pid IS NOT NULL",
        [GONE_MS],
    )
    log.info("receiver.ended", pids=[pid for pid, _ in rows])
    if not all(gone for _, gone in rows):
        raise ActFailed("the walreceiver does not end")


async def repoint(hands: Hands, a: act.Repoint) -> None:
    """Write the access files anew, then leave the upstream and follow it as in F7.

    PostgreSQL takes a connection string that has not changed for no reason to connect anew.
    """
    hands.guard(a.term)
    server = hands.server
    await asyncio.to_thread(conf.write_access, server.data_dir, server.settings, user=server.user)
    await server.set_upstream(None, None)
    await follow(hands, act.Follow(term=a.term, leader=a.leader, host=a.host, port=a.port))
