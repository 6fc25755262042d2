"""A client that comes through a balancer: first the header, then the session.

Theory of operation. On a listener with `proxy_protocol` every connection begins here. One from an
address that is not listed is a client itself and goes on at once. One from a balancer has to begin
with a header of the PROXY protocol; what comes after it is the client's. Until then there is no
session, so that the address that counts for `proxy.allow`, limits and logs is the client's.

Owns the time that a header may take. Leaves its form to `wire.forwarded`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from pgherd.relay.barred import Seldom, packed
from pgherd.relay.messages import ListenerSettings
from pgherd.relay.session import ClientSide, shared_view
from pgherd.relay.tally import Result, Tally
from pgherd.relay.transports import peer_of, prepared
from pgherd.route.entry import holds_any
from pgherd.wire.forwarded import read_forwarded
from pgherd.wire.startup import ProtocolViolation

HEADER_S = 5.0
"""A balancer sends it at once, before anything of its client's."""

_ADVICE = "let the balancer send the PROXY protocol, or take it off proxy_protocol"
_refused = Seldom("header.refused", _ADVICE)


class Forwarding(asyncio.BufferedProtocol):
    """The socket towards a balancer, or towards a client whose address is not known to be one."""

    __slots__ = ("_buffer", "_listener", "_make", "_peer", "_tally", "_timer", "_transport")

    def __init__(
        self, listener: ListenerSettings, tally: Tally, make: Callable[[str], ClientSide]
    ) -> None:
        self._listener = listener
        self._tally = tally
        self._make = make
        self._buffer = bytearray()
        self._peer = ""
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = prepared(transport)
        self._peer = peer_of(transport)
        if holds_any(packed(self._peer), self._listener.balancers):
            self._timer = asyncio.get_running_loop().call_later(HEADER_S, self._give_up)
        else:
            self._go_on(self._peer, b"")

    def get_buffer(self, sizehint: int) -> memoryview:
        return shared_view

    def buffer_updated(self, nbytes: int) -> None:
        self._buffer += shared_view[:nbytes]
        try:
            header = read_forwarded(self._buffer)
        except ProtocolViolation as why:
            self._leave(Result.VIOLATED, why)
            return
        if header is not None:
            self._go_on(header.address or self._peer, bytes(self._buffer[header.length :]))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()

    def _go_on(self, address: str, rest: bytes) -> None:
        """From here on it is a session like any other."""
        self._stop_clock()
        transport = cast(asyncio.Transport, self._transport)
        side = self._make(address)
        transport.set_protocol(side)
        side.connection_made(transport)
        while rest and not transport.is_closing():
            view = side.get_buffer(len(rest))
            taken = min(len(rest), len(view))
            view[:taken] = rest[:taken]
            side.buffer_updated(taken)
            rest = rest[taken:]

    def _give_up(self) -> None:
        self._leave(Result.SILENT, "no PROXY header came")

    def _leave(self, result: Result, why: object) -> None:
        self._stop_clock()
        self._tally.note(self._listener, result)
        now_s = asyncio.get_running_loop().time()
        _refused.note(self._listener.label, now_s=now_s, balancer=self._peer, why=why)
        cast(asyncio.Transport, self._transport).abort()

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def side_for(
    listener: ListenerSettings, tally: Tally, make: Callable[[], ClientSide]
) -> asyncio.BufferedProtocol:
    """What takes a connection to a listener that balancers may come to."""

    def named(address: str) -> ClientSide:
        side = make()
        side.session.address = address
        return side

    return Forwarding(listener, tally, named)
