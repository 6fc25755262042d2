"""Pass a CancelRequest on to every server that may know its key.

Owns the short connections this takes. A client learns that its request was taken from the end of
the connection, so the caller closes the client's only after this returns (libpq: PQcancel).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import cast

from pgherd.relay.sockets import connect
from pgherd.route.choose import Backend
from pgherd.wire.startup import CancelKey, encode_cancel

CANCEL_LIMIT_S = 3.0
SERVERS_MAX = 16


async def cancel_on(backends: Iterable[Backend], key: CancelKey) -> bool:
    """Send a key to these servers at once and wait until each has closed, within a limit; whether
    all have.
    """
    loop = asyncio.get_running_loop()
    request = encode_cancel(key)
    ways = {(one.host, one.port) for one in list(backends)[:SERVERS_MAX]}
    tasks = [loop.create_task(_cancel(host, port, request)) for host, port in ways]
    if not tasks:
        return True
    try:
        _, late = await asyncio.wait(tasks, timeout=CANCEL_LIMIT_S)
        return not late
    finally:
        for task in tasks:
            task.cancel()


class _Cancel(asyncio.Protocol):
    """Send one request and wait for the end."""

    def __init__(self, request: bytes, ended: asyncio.Event) -> None:
        self._request = request
        self._ended = ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set()


async def _cancel(host: str, port: int, request: bytes) -> None:
    ended = asyncio.Event()
    try:
        transport, _ = await connect(lambda: _Cancel(request, ended), host, port)
    except OSError:
        return  # a server that cannot be reached runs nothing that could be cancelled
    try:
        await ended.wait()
    finally:
        transport.abort()
