"""Addresses of this machine's interfaces, through the kernel's own protocol (netlink(7)).

Owns the layout of three messages of rtnetlink(7): put an address on an interface for so many
seconds, take it away, list all. No `ip` program is needed. Every call is one short exchange with
the kernel and blocks while it takes its lock. Leaves when to `daemon.vips`.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator

import msgspec

from pgherd.act.frames import IP

HEAD = struct.Struct("=IHHII")
ADDRESS = struct.Struct("=BBBBI")
ATTRIBUTE = struct.Struct("=HH")
LIFETIME = struct.Struct("=IIII")
NEW, DELETE, GET = 20, 21, 22
ERROR, DONE = 2, 3
IS_REQUEST, WANTS_ACK, REPLACES, CREATES, DUMPS = 0x1, 0x4, 0x100, 0x400, 0x300
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_CACHEINFO = 1, 2, 4, 6
NODAD = 0x02
"""We have asked ourselves whether it is anybody's: the kernel need not, and it works at once."""
FOR_EVER = 0xFFFF_FFFF
ANSWER_S = 5.0
BUFFER = 1 << 16


class Held(msgspec.Struct, frozen=True):
    """An address on an interface. seconds: for how much longer; None: for ever."""

    address: str
    index: int
    prefix: int
    seconds: int | None


def family_of(ip: IP) -> int:
    """The address family as the kernel numbers it."""
    return socket.AF_INET if ip.version == 4 else socket.AF_INET6


def put_message(ip: IP, *, prefix: int, index: int, seconds: int) -> bytes:
    """Have an address on an interface for so long from now; renews it where it is there already.

    Preferred for no time at all, so that this machine's own connections do not come from it.
    """
    packed = ip.packed
    lifetime = LIFETIME.pack(0, seconds, 0, 0)
    body = ADDRESS.pack(family_of(ip), prefix, NODAD, 0, index)
    body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    if isinstance(ip, ipaddress.IPv4Address) and prefix < 31:
        broadcast = ipaddress.IPv4Interface((packed, prefix)).network.broadcast_address
        body += attribute(IFA_BROADCAST, broadcast.packed)
    body += attribute(IFA_CACHEINFO, lifetime)
    return message(NEW, IS_REQUEST | WANTS_ACK | CREATES | REPLACES, body)


def delete_message(ip: IP, *, prefix: int, index: int) -> bytes:
    """Take an address from an interface."""
    body = ADDRESS.pack(family_of(ip), prefix, 0, 0, index)
    body += attribute(IFA_LOCAL, ip.packed) + attribute(IFA_ADDRESS, ip.packed)
    return message(DELETE, IS_REQUEST | WANTS_ACK, body)


def list_message() -> bytes:
    """List the addresses of all interfaces."""
    return message(GET, IS_REQUEST | DUMPS, ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0))


def message(kind: int, flags: int, body: bytes) -> bytes:
    return HEAD.pack(HEAD.size + len(body), kind, flags, 1, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    text = ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value
    return text + b"\0" * (-len(text) % 4)


def parts(data: bytes, head: struct.Struct) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """What stands one behind the other, each with its length first, aligned to four bytes."""
    while len(data) >= head.size:
        fields = head.unpack_from(data)
        length = fields[0]
        if not head.size <= length <= len(data):
            return
        yield fields, data[head.size : length]
        data = data[-(-length // 4) * 4 :]


def read_address(body: bytes) -> Held | None:
    """One entry of the kernel's list; None for a kind of address that is not ours to know."""
    if len(body) < ADDRESS.size:
        return None
    _, prefix, _, _, index = ADDRESS.unpack_from(body)
    found = {kind: value for (_, kind), value in parts(body[ADDRESS.size :], ATTRIBUTE)}
    packed = found.get(IFA_LOCAL, found.get(IFA_ADDRESS, b""))
    if len(packed) not in (4, 16):
        return None
    seconds = None
    if len(found.get(IFA_CACHEINFO, b"")) >= LIFETIME.size:
        valid = LIFETIME.unpack_from(found[IFA_CACHEINFO])[1]
        seconds = valid if valid != FOR_EVER else None
    return Held(str(ipaddress.ip_address(packed)), index, prefix, seconds)


def put(ip: IP, *, prefix: int, index: int, seconds: int) -> None:
    """Put an address there, or renew its time. Raises OSError."""
    exchange(put_message(ip, prefix=prefix, index=index, seconds=seconds))


def delete(ip: IP, *, prefix: int, index: int) -> bool:
    """Take an address away; False when it was not there. Raises OSError."""
    try:
        exchange(delete_message(ip, prefix=prefix, index=index))
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.ENODEV):
            raise
        return False
    return True


def held() -> list[Held]:
    """Every address of this machine. Raises OSError."""
    found = (read_address(body) for body in exchange(list_message()))
    return [one for one in found if one is not None]


def exchange(request: bytes, *, protocol: int = socket.NETLINK_ROUTE) -> list[bytes]:
    """Ask the kernel; the bodies of what it lists. Raises OSError with its own number.

    protocol: another part of the kernel, which lists under the same number by chance.
    """
    found: list[bytes] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as channel:
        channel.settimeout(ANSWER_S)
        channel.bind((0, 0))
        channel.send(request)
        while True:
            for (_, kind, *_), body in parts(channel.recv(BUFFER), HEAD):
                if kind == ERROR:
                    [code] = struct.unpack_from("=i", body)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return found
                if kind == DONE:
                    return found
                if kind == NEW:
                    found.append(body)
