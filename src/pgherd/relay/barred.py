"""Tell the log of clients that are sent away, but not of each.

Whose address may not come in, or who does not speak the protocol, can try as often as it likes; a
line for each try would fill the disk.
"""

from __future__ import annotations

import asyncio
import socket

from pgherd.relay.journal import say

QUIET_S = 10.0


class Barred:
    """The log's share: one line in QUIET_S at most, with how many there were since the last.

    event: what the line says that happened · advice: and what to look at.
    """

    def __init__(
        self, event: str = "client.barred", advice: str = "proxy.allow says who may come in"
    ) -> None:
        self._event = event
        self._advice = advice
        self._said_s = -QUIET_S
        self._unsaid = 0

    def note(self, address: str, label: str, *, now_s: float, why: str = "") -> None:
        """One more client was sent away."""
        self._unsaid += 1
        if now_s - self._said_s < QUIET_S:
            return
        said = {"why": why} if why else {}
        say(
            self._event,
            address=address,
            listener=label,
            since_last=self._unsaid,
            next=self._advice,
            **said,
        )
        self._said_s, self._unsaid = now_s, 0


def misspoken() -> Barred:
    """For clients that do not speak the protocol."""
    advice = (
        "what runs at that address? a health check or another program is meant for another port"
    )
    return Barred("client.violated", advice)


def address_of(transport: asyncio.Transport | None) -> str:
    """Where a client comes from, as far as it is known."""
    peer = transport.get_extra_info("peername") if transport is not None else None
    return str(peer[0]) if peer else "unknown"


def packed(host: str) -> bytes:
    """An address in network order; b"" for what is none, which no network holds."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.inet_pton(family, host.partition("%")[0])
    except OSError:
        return b""
