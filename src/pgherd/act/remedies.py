"""Actuators of the mild remedies: another walreceiver, the upstream named anew."""

from __future__ import annotations

import asyncio
import signal

from pgherd.act.following import follow
from pgherd.act.hands import ActFailed, Hands, log
from pgherd.model import action as act
from pgherd.postgres import conf, processes

GONE_S = 3.0


async def restart_receiver(hands: Hands, a: act.RestartReceiver) -> None:
    """End the receiver; the startup process asks for another one at once.

    By a signal of ours: pg_terminate_backend takes no auxiliary process.
    """
    server = hands.server
    old = (await server.look()).receiver
    if old is None:
        return
    processes.send(old.pid, signal.SIGTERM, data_dir=server.data_dir)
    try:
        async with asyncio.timeout(GONE_S):
            await processes.wait_gone(old.pid)
    except TimeoutError as error:
        raise ActFailed(f"walreceiver {old.pid} does not end") from error
    log.info("receiver.ended", pid=old.pid)


async def repoint(hands: Hands, a: act.Repoint) -> None:
    """Write the access files anew, then leave the upstream and follow it as in F7.

    PostgreSQL takes a connection string that has not changed for no reason to connect anew.
    """
    hands.guard(a.term)
    server = hands.server
    await asyncio.to_thread(conf.write_access, server.data_dir, server.settings, user=server.user)
    await server.set_upstream(None, None)
    await follow(hands, act.Follow(term=a.term, leader=a.leader, host=a.host, port=a.port))
