"""A client that is gone before its session is cut must not take the proxy along (found in CI)."""

from __future__ import annotations

import asyncio
import select
import socket
import struct

from pgherd.relay.session import end_of_data


def testend_of_data_to_a_peer_that_has_reset() -> None:
    """asyncio raises when it shuts down a reset connection; the session is just aborted."""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as door:
            loop = asyncio.get_running_loop()
            dialled = socket.create_connection(door.getsockname())
            peer, _ = door.accept()
            dialled.setblocking(False)
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=dialled)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            select.select([dialled], [], [], 5)  # the reset is here, the loop has not seen it
            end_of_data(transport)
            assert transport.is_closing()

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(scenario())
