"""Tell the log of clients that are sent away, but not of each.

Whose address may not come in, or who does not speak the protocol, can try as often as it likes; a
line for each try would fill the disk.
"""

from __future__ import annotations

import socket

from pgherd.relay.journal import say

QUIET_S = 10.0


class Seldom:
    """The log's share: one line in QUIET_S at most, with how many there were since the last."""

    def __init__(self, event: str, advice: str) -> None:
        self._event = event
        self._advice = advice
        self._said_s = -QUIET_S
        self._unsaid = 0

    def note(self, label: str, *, now_s: float, **fields: object) -> None:
        """One more was sent away."""
        self._unsaid += 1
        if now_s - self._said_s < QUIET_S:
            return
        say(self._event, **fields, listener=label, since_last=self._unsaid, next=self._advice)
        self._said_s, self._unsaid = now_s, 0


def misspoken() -> Seldom:
    """For clients that do not speak the protocol."""
    advice = (
        "what runs at that address? a health check or another program is meant for another port"
    )
    return Seldom("client.violated", advice)


def packed(host: str) -> bytes:
    """An address in network order; b"" for what is none, which no network holds."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.inet_pton(family, host.partition("%")[0])
    except OSError:
        return b""
