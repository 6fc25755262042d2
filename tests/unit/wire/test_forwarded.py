"""Proves that headers of the PROXY protocol are read from any cut, and nothing is taken for one.

The bytes are those of HAProxy's description (2.1 and 2.2), written out by hand.
"""

from __future__ import annotations

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgherd.wire.forwarded import HEADER_BYTES_MAX, SIGNATURE, Forwarded, read_forwarded
from pgherd.wire.startup import PROXY_HEADERS, ProtocolViolation, read_packet

FOUR = (
    b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"  # the signature
    b"\x21\x11\x00\x0c"  # version 2, PROXY; IPv4, stream; 12 bytes
    b"\xcb\x00\x71\x07\x0a\x00\x00\x01\xd4\x31\x15\x38"  # 203.0.113.7 to 10.0.0.1, 54321 to 5432
)
SIX = FOUR[:12] + b"\x21\x21\x00\x24" + bytes.fromhex(
    "20010db8000000000000000000000007" "fd000000000000000000000000000001" "d4311538"
)  # fmt: skip
EXTENDED = FOUR[:14] + b"\x00\x13" + FOUR[16:] + b"\x03\x00\x04\x00\x00\x00\x00"
LINE = b"PROXY TCP4 203.0.113.7 10.0.0.1 54321 5432\r\n"
LONGEST = b"PROXY TCP6 %b %b 65535 65535\r\n" % (b"ffff:" * 7 + b"ffff", b"ffff:" * 7 + b"ffff")

READ = [
    ("version 2, IPv4", FOUR, "203.0.113.7"),
    ("version 2, IPv6", SIX, "2001:db8::7"),
    ("version 2, with a checksum behind", EXTENDED, "203.0.113.7"),
    ("version 2, the balancer itself", FOUR[:12] + b"\x20\x11" + FOUR[14:], ""),
    ("version 2, the balancer itself, bare", FOUR[:12] + b"\x20\x00\x00\x00", ""),
    ("version 2, of no family", FOUR[:12] + b"\x21\x00" + FOUR[14:], ""),
    ("version 2, a Unix socket", FOUR[:13] + b"\x31\x00\xd8" + bytes(216), ""),
    ("version 1, IPv4", LINE, "203.0.113.7"),
    ("version 1, the longest", LONGEST, str(ipaddress.ip_address("ffff:" * 7 + "ffff"))),
    ("version 1, unknown", b"PROXY UNKNOWN\r\n", ""),
    ("version 1, unknown with more", b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ""),
]


@pytest.mark.parametrize(("data", "address"), [row[1:] for row in READ], ids=[r[0] for r in READ])
def test_each_form_is_read_from_any_cut(data: bytes, address: str) -> None:
    """Every proper beginning asks for more; what follows is not looked at."""
    for end in range(len(data)):
        assert read_forwarded(data[:end]) is None
    for rest in (b"", b"\0\0\0\x08\x04\xd2\x16\x2f", data):
        found = read_forwarded(bytearray(data + rest))
        assert found is not None
        assert (found.length, found.address) == (len(data), address)
    assert read_forwarded(FOUR) == Forwarded(28, "203.0.113.7", 54321)


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"PROXX TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"\r\n\r\n\x00\r\nQUIX\n",
        FOUR[:12] + b"\x11" + FOUR[13:],
        FOUR[:12] + b"\x22" + FOUR[13:],
        FOUR[:14] + b"\x00\x08" + FOUR[16:],
        FOUR[:14] + b"\xff\xff",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 ::1 1 2\r\n",
        b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY \xff\xff 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY " + b"x" * 200,
    ],
)
def test_what_is_none_is_refused(data: bytes) -> None:
    """Who is told to expect a header does not guess."""
    with pytest.raises(ProtocolViolation):
        read_forwarded(data)


def test_a_startup_packet_is_not_a_header_nor_the_reverse() -> None:
    """From an address that may not send one it is said as what it is."""
    for header in (FOUR, LINE):
        assert header[:4] in PROXY_HEADERS
        with pytest.raises(ProtocolViolation, match="a PROXY header from an address"):
            read_packet(header)


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda b: SIGNATURE + b)))
def test_garbage_only_violates(data: bytes) -> None:
    """Whatever comes, a header, a wish for more or a violation; never more than the limit."""
    with contextlib.suppress(ProtocolViolation):
        found = read_forwarded(data)
        assert found is None or found.length <= min(len(data), HEADER_BYTES_MAX)


@given(st.sampled_from([row[1] for row in READ]), st.data())
def test_a_flipped_bit_only_violates(data: bytes, draw: st.DataObject) -> None:
    """Near misses are where parsers break."""
    at = draw.draw(st.integers(0, len(data) * 8 - 1))
    flipped = bytearray(data)
    flipped[at // 8] ^= 1 << at % 8
    with contextlib.suppress(ProtocolViolation):
        found = read_forwarded(flipped)
        assert found is None or found.length <= len(data) + 65535
