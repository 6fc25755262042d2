"""One TCP or TLS connection as an asyncio.Protocol: frames in, frames out, nothing of meaning.

Frames put into the outbox in one turn of the loop leave in one write. When the kernel's buffer is
full they wait in the outbox, where small ones overtake large ones. A large frame leaves in pieces:
encrypting it at once would hold up everything else on the loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from typing import cast

from pgherd.model.ids import NodeId
from pgherd.peer.frame import Channel, FrameError, Splitter
from pgherd.peer.outbox import Outbox
from pgherd.pki.contexts import certificate_name

WRITE_BYTES = 64 * 1024
TURN_BYTES = 256 * 1024
"""After so much other connections have their turn, even if the kernel would take more."""
KEEPALIVE_IDLE_S = 3
KEEPALIVE_INTERVAL_S = 1
KEEPALIVE_PROBES = 3
USER_TIMEOUT_MS = 4000

OnFrame = Callable[["Wire", Channel, bytes], None]
OnLost = Callable[["Wire", Exception | None], None]


class Wire(asyncio.Protocol):
    """A connection. on_frame may raise FrameError: the connection is then closed with it."""

    def __init__(self, *, on_frame: OnFrame, on_lost: OnLost, outbox: Outbox | None = None) -> None:
        self.splitter = Splitter()
        self.outbox = outbox or Outbox()
        self.transport: asyncio.Transport | None = None
        self.silent_ticks = 0
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._error: Exception | None = None
        self._rest = memoryview(b"")
        self._is_paused = False
        self._is_flushing = False
        self._is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over."""
        self._loop = asyncio.get_running_loop()
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_BYTES)
        tune(transport)
        self.flush_soon()

    def data_received(self, data: bytes) -> None:
        """Hand complete frames on; close on the first one that cannot be right."""
        self.silent_ticks = 0
        try:
            for channel, body in self.splitter.feed(data):
                if self._is_lost or self._error is not None:
                    return
                self._on_frame(self, channel, body)
        except FrameError as error:
            self.fail(error)

    def pause_writing(self) -> None:
        """The kernel takes no more."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """The kernel takes bytes again."""
        self._is_paused = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner, once."""
        if not self._is_lost:
            self._is_lost = True
            self._on_lost(self, self._error or exc)

    def flush_soon(self) -> None:
        """Write what waits at the end of this turn of the loop."""
        if not self._is_flushing and self.transport is not None:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        left = TURN_BYTES
        while not self._is_paused and self.transport is not None and not self._is_lost:
            if not self._rest:
                self._rest = memoryview(self.outbox.take(WRITE_BYTES))
            if not self._rest:
                return
            if left <= 0:
                self.flush_soon()
                return
            left -= WRITE_BYTES
            piece, self._rest = self._rest[:WRITE_BYTES], self._rest[WRITE_BYTES:]
            self.transport.write(piece)

    def send_now(self, frame: bytes) -> None:
        """Write ahead of what waits: greetings and refusals."""
        if self.transport is not None and not self._is_lost:
            self.transport.write(frame)

    def fail(self, error: Exception) -> None:
        """Close because of what the other side did; the owner gets `error`."""
        self._error = self._error or error
        self.close()

    def close(self) -> None:
        """Close once what was handed to the kernel is out."""
        if self.transport is not None:
            self.transport.close()

    def abort(self, error: Exception | None = None) -> None:
        """Cut the connection."""
        self._error = self._error or error
        if self.transport is not None:
            self.transport.abort()

    def has_backlog(self) -> bool:
        """Whether frames wait for the kernel to take them."""
        waits = self.transport is not None and self.transport.get_write_buffer_size() > 0
        return waits or bool(self._rest) or bool(self.outbox)

    def peer_name(self) -> NodeId | None:
        """The name in the other side's verified certificate; None without TLS."""
        if self.transport is None or not self.is_encrypted():
            return None
        return certificate_name(self.transport.get_extra_info("peercert"))

    def certificate_ends_unix(self) -> int | None:
        """When the other side's certificate ends; None without TLS."""
        assert self.transport is not None
        certificate = self.transport.get_extra_info("peercert")
        return int(ssl.cert_time_to_seconds(certificate["notAfter"])) if certificate else None

    def is_encrypted(self) -> bool:
        """Whether TLS is on."""
        assert self.transport is not None
        return self.transport.get_extra_info("ssl_object") is not None

    def peer_address(self) -> str:
        """The other side's address, for people."""
        address = self.transport.get_extra_info("peername") if self.transport else None
        return f"{address[0]}:{address[1]}" if address else "unknown"


def tune(transport: asyncio.BaseTransport) -> None:
    """No delay for small frames; a silent other side is noticed within seconds."""
    connection = transport.get_extra_info("socket")
    if connection is None:
        return
    options = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    ]
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", USER_TIMEOUT_MS),
    ):
        if hasattr(socket, name):  # macOS lacks some
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    try:
        for level, option, number in options:
            connection.setsockopt(level, option, number)
    except OSError:
        pass  # the connection is already gone; connection_lost says so


def explain(error: BaseException | None) -> str:
    """Why a connection failed, in words an operator can act on."""
    if error is None:
        return "it closed the connection"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return ALERTS.get(str(error.reason), f"TLS: {error.reason or error}")
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and (error.errno or 0) > 0:
        return os.strerror(error.errno or 0).lower()
    return str(error) or type(error).__name__


ALERTS = {
    "TLSV1_ALERT_UNKNOWN_CA": "it refuses our certificate: another cluster's CA",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it refuses our certificate: it has expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refuses our certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it asks for a certificate and got none",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate",
}
