"""Ends the TCP sessions of an address that is about to leave, so that their clients hear of it.

Once it has left nothing can be sent from it: a client that waits for an answer would wait until its
own keepalive. Owns the two messages of sock_diag(7) for that; the kernel sends the resets. Leaves
when to `vip`.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator

from pgherd.act.frames import IP
from pgherd.act.netlink import DUMPS, IS_REQUEST, WANTS_ACK, exchange, message

PROTOCOL = 4
BY_FAMILY, DESTROY = 20, 21
ASK = struct.Struct("=BBBBI")
NO_ID = bytes(48)
ID_AT, SOURCE_AT = 4, 8
"""Of an answer: where what names a socket begins, and in it the local address."""

ESTABLISHED, SYN_RECEIVED, CLOSE_WAIT = 1, 3, 8
ALIVE = 1 << ESTABLISHED | 1 << SYN_RECEIVED | 1 << CLOSE_WAIT
"""One that this side has closed is left alone: its last words are on their way."""

FAMILIES = (socket.AF_INET, socket.AF_INET6)


def reset(ip: IP) -> int:
    """End what is connected to an address of this machine; how many sessions. Raises OSError.

    A kernel that cannot (no CONFIG_INET_DIAG_DESTROY) ends none.
    """
    ended = 0
    for family in FAMILIES:
        for name in alive(ip, family):
            try:
                exchange(destroy_message(family, name), protocol=PROTOCOL)
                ended += 1
            except OSError as error:
                if error.errno == errno.EOPNOTSUPP:
                    return ended
                if error.errno != errno.ENOENT:  # that one has just ended by itself
                    raise
    return ended


def alive(ip: IP, family: int) -> Iterator[bytes]:
    """What the kernel calls each session of one family that has this local address."""
    for body in exchange(list_message(family), protocol=PROTOCOL):
        if local_address(body, family) == ip:
            yield body[ID_AT : ID_AT + len(NO_ID)]


def list_message(family: int) -> bytes:
    """List the sessions of one family, listeners left out."""
    body = ASK.pack(family, socket.IPPROTO_TCP, 0, 0, ALIVE) + NO_ID
    return message(BY_FAMILY, IS_REQUEST | DUMPS, body)


def destroy_message(family: int, name: bytes) -> bytes:
    """End one session."""
    body = ASK.pack(family, socket.IPPROTO_TCP, 0, 0, ALIVE) + name
    return message(DESTROY, IS_REQUEST | WANTS_ACK, body)


def local_address(body: bytes, family: int) -> IP | None:
    """The local address of a listed session; one of IPv4 in the form of IPv6 is itself."""
    source = body[SOURCE_AT : SOURCE_AT + 16]
    if len(source) < 16:
        return None
    if family == socket.AF_INET:
        return ipaddress.IPv4Address(source[:4])
    found = ipaddress.IPv6Address(source)
    return found.ipv4_mapped or found
