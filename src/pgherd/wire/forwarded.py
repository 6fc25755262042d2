"""The PROXY protocol: what a balancer in front of us says about the client it stands for. Pure.

Owns both versions of the header, as far as TCP uses it ("The PROXY protocol", HAProxy, 2.1 and
2.2). Version 1 is a line of text. Version 2 is a signature, a byte of version and command, one of
family and transport, a length, then addresses and extensions; those are stepped over, the checksum
among them: TCP has one. Whom to believe is the relay's.
"""

from __future__ import annotations

import ipaddress

import msgspec

from pgherd.wire.startup import ProtocolViolation

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
WORD = b"PROXY "
LINE_BYTES_MAX = 107
HEADER_BYTES_MAX = 4096
"""Addresses take 36 bytes at most; extensions may carry the name in a client's certificate."""

_FIXED_BYTES = 16
_VERSION = 2
_LOCAL, _PROXY = 0, 1
_IPV4, _IPV6, _STREAM = 1, 2, 1
_SIZES = {_IPV4: 4, _IPV6: 16}
_FAMILIES = {"TCP4": 4, "TCP6": 6}


class Forwarded(msgspec.Struct, frozen=True):
    """A header that was read. length: its bytes · address: the client's, "" where it says none:
    the balancer speaks for itself then, or does not know.
    """

    length: int
    address: str = ""
    port: int = 0


def read_forwarded(buffer: bytes | bytearray) -> Forwarded | None:
    """The header at the start of a buffer; None while more bytes are needed.

    Raises ProtocolViolation where there is none: who was told to expect one must not guess.
    """
    for mark, read in ((SIGNATURE, _read_binary), (WORD, _read_line)):
        if buffer[: len(mark)] == mark[: len(buffer)]:
            return read(bytes(buffer[:HEADER_BYTES_MAX])) if len(buffer) >= len(mark) else None
    raise ProtocolViolation("no PROXY header, which this address has to send")


def _read_binary(data: bytes) -> Forwarded | None:
    if len(data) < _FIXED_BYTES:
        return None
    version, command = data[12] >> 4, data[12] & 0x0F
    family, transport = data[13] >> 4, data[13] & 0x0F
    if version != _VERSION or command not in (_LOCAL, _PROXY):
        raise ProtocolViolation(f"PROXY header of version {version} with command {command}")
    length = _FIXED_BYTES + int.from_bytes(data[14:_FIXED_BYTES], "big")
    if length > HEADER_BYTES_MAX:
        raise ProtocolViolation(f"PROXY header of {length} bytes")
    if len(data) < length:
        return None
    size = _SIZES.get(family, 0)
    if command == _LOCAL or not size or transport != _STREAM:
        return Forwarded(length)
    body = data[_FIXED_BYTES:length]
    if len(body) < 2 * size + 4:
        raise ProtocolViolation("PROXY header that is too short for its addresses")
    port = int.from_bytes(body[2 * size : 2 * size + 2], "big")
    return Forwarded(length, str(ipaddress.ip_address(body[:size])), port)


def _read_line(data: bytes) -> Forwarded | None:
    line, end, _ = data[:LINE_BYTES_MAX].partition(b"\r\n")
    if not end:
        if len(data) >= LINE_BYTES_MAX:
            raise ProtocolViolation("PROXY line without an end")
        return None
    length, words = len(line) + len(end), line.split(b" ")
    if words[1] == b"UNKNOWN":
        return Forwarded(length)
    try:
        _, family, source, target, port, target_port = (word.decode("ascii") for word in words)
        version = _FAMILIES[family]
        found, other = ipaddress.ip_address(source), ipaddress.ip_address(target)
        ports = int(port), int(target_port)
    except (ValueError, KeyError) as error:
        raise ProtocolViolation("PROXY line that says no addresses") from error
    if {found.version, other.version} != {version} or not all(0 <= one <= 65535 for one in ports):
        raise ProtocolViolation("PROXY line whose addresses are not of its family")
    return Forwarded(length, str(found), ports[0])
