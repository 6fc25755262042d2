"""Host names to addresses, off the loop, on one thread of our own.

A name server that hangs must not use up the threads that others need, and must not cut nodes off
whose address was known: the last good answer serves until there is a new one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor

LOOKUP_S_MAX = 1.0
ADDRESSES_MAX = 4


class Resolver:
    """Looks names up, one at a time."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pgherd-peer")
        self._known: dict[str, list[str]] = {}
        self._asked: dict[str, asyncio.Future[list[str]]] = {}

    async def resolve(self, host: str) -> list[str]:
        """The addresses of a host; raises OSError when none was ever known."""
        if is_address(host):
            return [host]
        lookup = self._asked.get(host)
        if lookup is None:
            loop = asyncio.get_running_loop()
            lookup = self._asked[host] = loop.run_in_executor(self._pool, look_up, host)
            lookup.add_done_callback(lambda done: self._answered(host, done))
        try:
            async with asyncio.timeout(LOOKUP_S_MAX):
                return await asyncio.shield(lookup)
        except OSError:  # TimeoutError is one
            if host in self._known:
                return self._known[host]
            raise

    def close(self) -> None:
        """Let the thread go; a hanging lookup is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _answered(self, host: str, lookup: asyncio.Future[list[str]]) -> None:
        self._asked.pop(host, None)
        if not lookup.cancelled() and lookup.exception() is None:
            self._known[host] = lookup.result()


def look_up(host: str) -> list[str]:
    """Ask the system's resolver. Blocking."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))[:ADDRESSES_MAX]


def is_address(host: str) -> bool:
    """Whether a host is an IP address already."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
