"""Proves that a TLS connection that was ended twice does not end the proxy.

Found by asyncpg: asyncio's TLS forgets what it stands on at a second close, and the look for dead
peers that came next brought the process down.
"""

from __future__ import annotations

import asyncio

from pgherd.relay.proxy import SWEEP_PARTS, Proxy
from pgherd.relay.session import close


class Closable(asyncio.Transport):
    """As `_SSLProtocolTransport` of Python 3.11 in what matters."""

    def __init__(self) -> None:
        super().__init__()
        self.closes = 0

    def is_closing(self) -> bool:
        return self.closes > 0

    def close(self) -> None:
        self.closes += 1

    def get_extra_info(self, name: str, default: object = None) -> object:
        raise AttributeError("'NoneType' object has no attribute '_get_extra_info'")


class _Both:
    """A session with it on both sides."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.client = self.server = transport


def test_it_is_closed_once_and_not_asked_afterwards() -> None:
    transport = Closable()
    close(transport)
    close(transport)
    assert transport.closes == 1
    proxy = Proxy()
    proxy._sessions.add(_Both(transport))  # type: ignore[arg-type] # what a sweep looks at
    for part in range(SWEEP_PARTS):
        proxy.sweep(part)
