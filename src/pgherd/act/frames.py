"""Frames on an Ethernet that ask for an address, tell of it, or claim it. Pure: bytes in and out.

ARP is RFC 826, its probe and announcement RFC 5227; for IPv6 neighbour solicitation and
advertisement of RFC 4861, the probe of RFC 4862. Owns their layout and the one question that is
asked of what others send: does somebody else have this address?
"""

from __future__ import annotations

import ipaddress
import struct

ETH_ARP, ETH_IPV6 = 0x0806, 0x86DD
BROADCAST = b"\xff" * 6
NOBODY = bytes(6)
ETHERNET, IPV4, MAC_BYTES, IPV4_BYTES = 1, 0x0800, 6, 4
REQUEST, REPLY = 1, 2
ARP = struct.Struct("!HHBBH6s4s6s4s")
ETH = struct.Struct("!6s6sH")
IPV6_HEAD = struct.Struct("!IHBB16s16s")
ICMPV6, HOPS, SOLICITATION, ADVERTISEMENT = 58, 255, 135, 136
OVERRIDE = 0x2000_0000
ND = struct.Struct("!BBHI16s")
SOURCE_LINK, TARGET_LINK = 1, 2
OPTION = struct.Struct("!BB6s")
ALL_NODES = ipaddress.IPv6Address("ff02::1").packed
UNSPECIFIED = bytes(16)
SOLICITED = ipaddress.IPv6Address("ff02::1:ff00:0").packed[:13]

IPv4 = ipaddress.IPv4Address
IP = ipaddress.IPv4Address | ipaddress.IPv6Address


def probe(ip: IP, mac: bytes) -> bytes:
    """Ask whether anybody has an address, without claiming it."""
    if isinstance(ip, IPv4):
        return arp(REQUEST, mac, bytes(4), NOBODY, ip.packed)
    body = ND.pack(SOLICITATION, 0, 0, 0, ip.packed)
    return icmp(mac, UNSPECIFIED, solicited_node(ip.packed), body)


def announcements(ip: IP, mac: bytes) -> tuple[bytes, ...]:
    """Tell all that an address is here now; what they remember of another place is replaced.

    For IPv4 as a request, which RFC 5227 prefers, and as a reply, which some listen to alone.
    """
    if isinstance(ip, IPv4):
        return (
            arp(REQUEST, mac, ip.packed, NOBODY, ip.packed),
            arp(REPLY, mac, ip.packed, BROADCAST, ip.packed),
        )
    body = ND.pack(ADVERTISEMENT, 0, 0, OVERRIDE, ip.packed) + OPTION.pack(TARGET_LINK, 1, mac)
    return (icmp(mac, ip.packed, ALL_NODES, body),)


def arp(operation: int, mac: bytes, sender: bytes, target_mac: bytes, target: bytes) -> bytes:
    """One ARP packet to everybody."""
    head = ETH.pack(BROADCAST, mac, ETH_ARP)
    fixed = (ETHERNET, IPV4, MAC_BYTES, IPV4_BYTES, operation)
    return head + ARP.pack(*fixed, mac, sender, target_mac, target)


def icmp(mac: bytes, source: bytes, target: bytes, body: bytes) -> bytes:
    """One ICMPv6 message to a multicast group, with its checksum."""
    pseudo = source + target + struct.pack("!II", len(body), ICMPV6)
    total = checksum(pseudo + body)
    body = body[:2] + struct.pack("!H", total) + body[4:]
    head = ETH.pack(group_mac(target), mac, ETH_IPV6)
    return head + IPV6_HEAD.pack(6 << 28, len(body), ICMPV6, HOPS, source, target) + body


def checksum(data: bytes) -> int:
    """The one's complement sum of RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def solicited_node(packed: bytes) -> bytes:
    """The multicast group in which the owner of an address listens."""
    return SOLICITED + packed[13:]


def group_mac(group: bytes) -> bytes:
    """Where Ethernet sends a multicast group of IPv6 (RFC 2464)."""
    return b"\x33\x33" + group[12:]


def claimed_by(frame: bytes, ip: IP, mac: bytes) -> bytes:
    """Who else claims an address with this frame, or asks for it at the same time; b"": nobody.

    mac: our own, of which nothing is a claim. What is no frame of these kinds is none either.
    """
    if len(frame) < ETH.size:
        return b""
    _, source, kind = ETH.unpack_from(frame)
    if source == mac:
        return b""
    body = frame[ETH.size :]
    if isinstance(ip, IPv4):
        return claimed_in_arp(body, ip, mac) if kind == ETH_ARP else b""
    return claimed_in_icmp(body, ip, mac, source) if kind == ETH_IPV6 else b""


def claimed_in_arp(body: bytes, ip: IP, mac: bytes) -> bytes:
    if len(body) < ARP.size:
        return b""
    *fixed, _, sender_mac, sender, _, target = ARP.unpack_from(body)
    if fixed != [ETHERNET, IPV4, MAC_BYTES, IPV4_BYTES] or sender_mac == mac:
        return b""
    is_probe = sender == bytes(4) and target == ip.packed
    return bytes(sender_mac) if sender == ip.packed or is_probe else b""


def claimed_in_icmp(body: bytes, ip: IP, mac: bytes, frame_source: bytes) -> bytes:
    if len(body) < IPV6_HEAD.size + ND.size:
        return b""
    _, _, following, hops, source, _ = IPV6_HEAD.unpack_from(body)
    kind, code, _, _, target = ND.unpack_from(body, IPV6_HEAD.size)
    if (following, hops, code) != (ICMPV6, HOPS, 0) or target != ip.packed:
        return b""
    if kind == SOLICITATION:
        return frame_source if source == UNSPECIFIED else b""
    if kind != ADVERTISEMENT:
        return b""
    owner = link_of(body[IPV6_HEAD.size + ND.size :]) or frame_source
    return owner if owner != mac else b""


def link_of(options: bytes) -> bytes:
    """The link address that an advertisement names; b"" when none."""
    while len(options) >= 2 and options[1]:
        kind, length = options[0], options[1] * 8
        if kind == TARGET_LINK and len(options) >= OPTION.size:
            return options[2 : OPTION.size]
        options = options[length:]
    return b""


def text_of(mac: bytes) -> str:
    """A link address as people write it."""
    return mac.hex(":")
