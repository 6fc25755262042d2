"""What every session does with its two transports, whatever passes between them.

Owns buffer limits and socket options of a new one, back-pressure, and half-closing.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from pgherd.relay.sockets import tune

WRITE_BYTES_HIGH = 64 * 1024
WRITE_BYTES_LOW = 16 * 1024


def peer_of(transport: asyncio.BaseTransport) -> str:
    """The address at the other end."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else "unknown"


def is_local(transport: asyncio.BaseTransport) -> bool:
    """Whether it is a Unix socket, on which PostgreSQL speaks no TLS."""
    sock = transport.get_extra_info("socket")
    return sock is not None and sock.family == socket.AF_UNIX


def prepared(base: asyncio.BaseTransport) -> asyncio.Transport:
    transport = cast(asyncio.Transport, base)
    transport.set_write_buffer_limits(high=WRITE_BYTES_HIGH, low=WRITE_BYTES_LOW)
    sock = transport.get_extra_info("socket")
    if sock is not None:
        try:
            tune(sock)
        except OSError:
            pass  # a Unix socket, or already reset by its peer: connection_lost follows
    return transport


def pause(sender: asyncio.Transport | None) -> None:
    if sender is not None and not sender.is_closing() and sender.is_reading():
        sender.pause_reading()


def end_of_data(transport: asyncio.Transport) -> None:
    """Say that nothing more comes; the peer may be gone before we know (asyncio raises then).

    TLS has no half-closed state: what is owed is flushed, and the end waits for the peer's answer.
    """
    try:
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()
    except OSError:
        transport.abort()


def close(transport: asyncio.Transport) -> None:
    """Close once: after a second time asyncio's TLS can no longer be asked anything."""
    if not transport.is_closing():
        transport.close()


def resume(sender: asyncio.Transport | None) -> None:
    if sender is not None and not sender.is_closing() and not sender.is_reading():
        sender.resume_reading()
