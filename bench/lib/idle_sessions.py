"""A server that logs everybody in and then says nothing, as a process: `python idle_sessions.py`.

Owns just enough of the protocol to open thousands of sessions. Prints its port, ends with stdin.
"""

from __future__ import annotations

import asyncio
import sys

LOGGED_IN = b"R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I"


class Session(asyncio.Protocol):
    """One of them."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(LOGGED_IN)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Session, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
