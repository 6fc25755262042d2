"""The bytes on the wire and to the kernel, against what the RFCs and rtnetlink(7) say of them."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from pathlib import Path

import pytest

from pgherd.act import frames, netlink, rights, sessions
from pgherd.act.frames import announcements, checksum, claimed_by, group_mac, probe

MAC, OTHER = bytes.fromhex("02005e100001"), bytes.fromhex("02005e100002")
V4 = ipaddress.ip_address("10.0.1.100")
V6 = ipaddress.ip_address("fd00::1:2:3")


def hexed(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


# --- ARP: RFC 826, RFC 5227 -----------------------------------------------------------------------


def test_an_arp_probe_claims_nothing() -> None:
    """RFC 5227 1.1: broadcast, sender address all zero, target hardware address zero."""
    assert probe(V4, MAC) == hexed(
        "ffffffffffff 02005e100001 0806"  # to all, from us, ARP
        "0001 0800 06 04 0001"  # Ethernet, IPv4, lengths, request
        "02005e100001 00000000"
        "000000000000 0a000164"
    )


def test_an_arp_announcement_is_a_request_for_oneself() -> None:
    """RFC 5227 2.3: like the probe, with sender and target address the same; and as a reply."""
    request, reply = announcements(V4, MAC)
    assert request == hexed(
        "ffffffffffff 02005e100001 0806 0001 0800 06 04 0001"
        "02005e100001 0a000164 000000000000 0a000164"
    )
    assert reply == hexed(
        "ffffffffffff 02005e100001 0806 0001 0800 06 04 0002"
        "02005e100001 0a000164 ffffffffffff 0a000164"
    )


def test_what_claims_an_ipv4_address() -> None:
    """RFC 5227 2.1.1: any packet from it, and a probe of somebody else's for it."""
    for frame in (*announcements(V4, OTHER), probe(V4, OTHER)):
        assert claimed_by(frame, V4, MAC) == OTHER
        assert claimed_by(frame, V4, OTHER) == b"", "our own is no claim"
    another = ipaddress.ip_address("10.0.1.101")
    for frame in (*announcements(another, OTHER), probe(another, OTHER)):
        assert claimed_by(frame, V4, MAC) == b""
    asks = frames.arp(frames.REQUEST, OTHER, another.packed, frames.NOBODY, V4.packed)
    assert claimed_by(asks, V4, MAC) == b"", "who looks for it does not have it"
    answer = frames.arp(frames.REPLY, OTHER, V4.packed, MAC, bytes(4))
    assert claimed_by(answer, V4, MAC) == OTHER


# --- IPv6: RFC 4861, RFC 4862 ---------------------------------------------------------------------


def parts_of(frame: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Ethernet head, source and target of IPv6, and the message."""
    assert frame[12:14] == hexed("86dd")
    assert frame[14] >> 4 == 6
    assert struct.unpack("!H", frame[18:20])[0] == len(frame) - 54
    assert (frame[20], frame[21]) == (58, 255), "ICMPv6, hop limit 255 (RFC 4861 7.1)"
    return frame[:14], frame[22:38], frame[38:54], frame[54:]


def is_sound(source: bytes, target: bytes, message: bytes) -> bool:
    """RFC 4443 2.3: with its checksum in it, all sums up to zero."""
    return checksum(source + target + struct.pack("!II", len(message), 58) + message) == 0


def test_an_ipv6_probe_is_a_solicitation_from_nobody() -> None:
    """RFC 4862 5.4.2, RFC 4861 4.3: from ::, to the solicited-node group, without an option."""
    head, source, target, message = parts_of(probe(V6, MAC))
    assert head[:12] == hexed("3333ff020003 02005e100001")
    assert source == bytes(16)
    assert target == ipaddress.IPv6Address("ff02::1:ff02:3").packed
    assert message[:2] == hexed("87 00")
    assert message[4:] == bytes(4) + V6.packed
    assert is_sound(source, target, message)


def test_an_ipv6_announcement_overrides_what_is_remembered() -> None:
    """RFC 4861 7.2.6: to all nodes, not solicited, override, with the target's link address."""
    [frame] = announcements(V6, MAC)
    head, source, target, message = parts_of(frame)
    assert head[:12] == hexed("333300000001 02005e100001")
    assert (source, target) == (V6.packed, ipaddress.IPv6Address("ff02::1").packed)
    assert message[:2] == hexed("88 00")
    assert message[4:] == hexed("20000000") + V6.packed + hexed("02 01") + MAC
    assert is_sound(source, target, message)


def test_the_checksum_is_that_of_the_rfc() -> None:
    """The example of RFC 1071 3: the sum is ddf2."""
    assert checksum(hexed("0001f203f4f5f6f7")) == 0xDDF2 ^ 0xFFFF
    assert checksum(b"\x01") == 0x0100 ^ 0xFFFF, "an odd byte is filled up"


def test_what_claims_an_ipv6_address() -> None:
    """RFC 4862 5.4.3 and 5.4.4: an advertisement, and another's solicitation from nobody."""
    [announcement] = announcements(V6, OTHER)
    assert claimed_by(announcement, V6, MAC) == OTHER
    assert claimed_by(probe(V6, OTHER), V6, MAC) == OTHER
    assert claimed_by(probe(V6, MAC), V6, MAC) == b""
    bare = announcement[:-8]
    assert claimed_by(bare, V6, MAC) == OTHER, "without the option it is who sent the frame"
    assert claimed_by(announcement, ipaddress.ip_address("fd00::9"), MAC) == b""
    routed = announcement[:21] + b"\x40" + announcement[22:]
    assert claimed_by(routed, V6, MAC) == b"", "a hop limit below 255 came from elsewhere"


@pytest.mark.parametrize("ip", [V4, V6])
def test_no_cut_or_strange_frame_is_a_claim(ip: frames.IP) -> None:
    for frame in (*announcements(ip, OTHER), probe(ip, OTHER)):
        for length in range(len(frame) - 8):
            assert claimed_by(frame[:length], ip, MAC) == b""
    assert claimed_by(bytes(60), ip, MAC) == b""
    vlan = frames.BROADCAST + OTHER + hexed("8100 0001") + bytes(60)
    assert claimed_by(vlan, ip, MAC) == b""


def test_multicast_goes_where_ethernet_wants_it() -> None:
    """RFC 2464 7: 33-33 and the last four bytes."""
    assert group_mac(ipaddress.IPv6Address("ff02::1:ff0a:b0c").packed) == hexed("3333ff0a0b0c")


# --- rtnetlink(7) ---------------------------------------------------------------------------------


def test_what_puts_an_address_there() -> None:
    """struct nlmsghdr, struct ifaddrmsg, then attributes: RTM_NEWADDR with a lifetime."""
    message = netlink.put_message(V4, prefix=24, index=7, seconds=3)
    length, kind, flags, _, _ = struct.unpack_from("=IHHII", message)
    assert (length, kind, flags) == (len(message), 20, 0x1 | 0x4 | 0x100 | 0x400)
    assert struct.unpack_from("=BBBBI", message, 16) == (socket.AF_INET, 24, 0x02, 0, 7)
    found = {at: value for (_, at), value in netlink.parts(message[24:], netlink.ATTRIBUTE)}
    assert found[1] == found[2] == V4.packed
    assert found[4] == ipaddress.ip_address("10.0.1.255").packed
    assert struct.unpack("=IIII", found[6])[:2] == (0, 3), "preferred never, valid for 3 s"
    assert 4 not in {
        at
        for wide in (netlink.put_message(V6, prefix=64, index=7, seconds=3),)
        for (_, at), _ in netlink.parts(wide[24:], netlink.ATTRIBUTE)
    }, "IPv6 has no broadcast"


def test_what_the_kernel_lists_is_read() -> None:
    """Local before address, for a peer's link has both; a lifetime without an end is none."""
    for ip, seconds, told in ((V4, 3, 3), (V6, 60, 60), (V4, 0xFFFFFFFF, None)):
        body = netlink.put_message(ip, prefix=24, index=7, seconds=seconds)[16:]
        assert netlink.read_address(body) == netlink.Held(str(ip), 7, 24, told)
    assert netlink.read_address(b"\0" * 8) is None
    assert netlink.read_address(b"\0") is None


def test_odd_lengths_end_the_reading() -> None:
    good = netlink.attribute(1, b"abc")
    assert len(good) == 8, "filled up to four bytes"
    for broken in (b"\x03\0\x01\0", b"\xff\0\x01\0", b"\x08\0"):
        assert [value for _, value in netlink.parts(good + broken, netlink.ATTRIBUTE)] == [b"abc"]


def test_the_kernel_says_no_with_its_own_number() -> None:
    """The loopback's address is the kernel's: asked of the real one, whoever runs this."""
    with pytest.raises(OSError, match=r".") as caught:
        netlink.put(V4, prefix=32, index=999_999, seconds=1)
    assert caught.value.errno in (errno.ENODEV, errno.EPERM)
    assert any(one.address == "127.0.0.1" for one in netlink.held())


# --- sock_diag(7) ---------------------------------------------------------------------------------


def test_sessions_are_asked_for_by_family_and_state() -> None:
    """struct inet_diag_req_v2: family, TCP, and the states that end; nothing of one socket."""
    message = sessions.list_message(socket.AF_INET6)
    assert struct.unpack_from("=IHH", message) == (len(message), 20, 0x1 | 0x300)
    states = 1 << 1 | 1 << 3 | 1 << 8
    assert struct.unpack_from("=BBBBI", message, 16) == (socket.AF_INET6, 6, 0, 0, states)
    assert message[24:] == bytes(48)
    name = bytes(range(48))
    assert sessions.destroy_message(socket.AF_INET, name)[24:] == name
    assert struct.unpack_from("=IHH", sessions.destroy_message(2, name))[1:] == (21, 0x1 | 0x4)


def test_the_local_address_of_a_session_is_read() -> None:
    """struct inet_diag_msg: four bytes, two ports, the local address; mapped IPv4 is IPv4."""
    before, after = bytes(8), bytes(60)
    assert sessions.local_address(before + V4.packed + bytes(12) + after, socket.AF_INET) == V4
    assert sessions.local_address(before + V6.packed + after, socket.AF_INET6) == V6
    mapped = bytes(10) + b"\xff\xff" + V4.packed
    assert sessions.local_address(before + mapped + after, socket.AF_INET6) == V4
    assert sessions.local_address(before, socket.AF_INET) is None


# --- capabilities(7) ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effective", "missing"),
    [
        ("0000000000003000", []),
        ("0000000000001000", ["CAP_NET_RAW"]),
        ("0000000000002000", ["CAP_NET_ADMIN"]),
        ("0000000000000000", ["CAP_NET_ADMIN", "CAP_NET_RAW"]),
    ],
)
def test_which_rights_are_missing(tmp_path: Path, effective: str, missing: list[str]) -> None:
    status = tmp_path / "status"
    status.write_text(f"Name:\tpython\nCapEff:\t{effective}\nCapAmb:\t0\n")
    assert rights.lacking(status) == missing
    assert rights.lacking(tmp_path / "none") == [], "what cannot be known is tried"
