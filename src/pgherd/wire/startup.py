"""What a client may send first: startup packets read out of a growing buffer.

Owns the limits on these packets. A packet is length (4 bytes, itself included), code (4 bytes),
body; there is no type byte yet. PostgreSQL docs, "Message Formats": StartupMessage, SSLRequest,
GSSENCRequest, CancelRequest. PostgreSQL 17 added TLS without a request ("direct"): its first byte
is that of a TLS handshake record, which no valid length starts with.
"""

from __future__ import annotations

import msgspec

STARTUP_BYTES_MAX = 10_000
"""MAX_STARTUP_PACKET_LENGTH of PostgreSQL (libpq/pqcomm.h)."""

CANCEL_KEY_BYTES_MAX = 256
"""Longest secret key of protocol 3.2; protocol 3.0 always has 4 bytes."""

CANCEL_CODE = 80877102
SSL_CODE = 80877103
GSSENC_CODE = 80877104
PROTOCOL_MAJOR = 3
_TLS_HANDSHAKE = 0x16
PROXY_HEADERS = (b"\r\n\r\n", b"PROX")
"""What a header of the PROXY protocol begins with (`forwarded`): said as what it is."""
_HEADER_BYTES = 8

SSL_REQUEST = _HEADER_BYTES.to_bytes(4, "big") + SSL_CODE.to_bytes(4, "big")
"""What a client says that would like TLS."""


class ProtocolViolation(Exception):
    """The peer does not speak PostgreSQL's protocol. sqlstate: what to answer it."""

    def __init__(self, message: str, sqlstate: str = "08P01") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class CancelKey(msgspec.Struct, frozen=True):
    """What names a running session to its server: process id and secret."""

    pid: int
    secret: bytes


class SslRequest(msgspec.Struct, frozen=True):
    """The client asks for TLS; the answer is one byte."""

    length: int = _HEADER_BYTES


class GssEncRequest(msgspec.Struct, frozen=True):
    """The client asks for GSSAPI encryption; the answer is one byte."""

    length: int = _HEADER_BYTES


class DirectTls(msgspec.Struct, frozen=True):
    """A TLS handshake without a request; everything from here on is opaque."""

    length: int = 0


class CancelRequest(msgspec.Struct, frozen=True):
    """Not a session: the wish to cancel what another session runs."""

    length: int
    key: CancelKey


class StartupMessage(msgspec.Struct, frozen=True):
    """The session's parameters: user, database, options, in the order sent."""

    length: int
    minor: int
    parameters: tuple[tuple[str, str], ...]


Packet = SslRequest | GssEncRequest | DirectTls | CancelRequest | StartupMessage


def read_packet(buffer: bytes | bytearray) -> Packet | None:
    """The packet at the start of a buffer; None while more bytes are needed."""
    if not buffer:
        return None
    if buffer[0] == _TLS_HANDSHAKE:
        return DirectTls()
    if len(buffer) < 4:
        return None
    length = int.from_bytes(buffer[:4], "big")
    if bytes(buffer[:4]) in PROXY_HEADERS:
        raise ProtocolViolation("a PROXY header from an address that may not send one")
    if not _HEADER_BYTES <= length <= STARTUP_BYTES_MAX:
        raise ProtocolViolation(f"invalid length of startup packet: {length}")
    if len(buffer) < length:
        return None
    code = int.from_bytes(buffer[4:8], "big")
    return _read_body(length, code, bytes(buffer[_HEADER_BYTES:length]))


def encode_cancel(key: CancelKey) -> bytes:
    """A CancelRequest for a server."""
    body = CANCEL_CODE.to_bytes(4, "big") + key.pid.to_bytes(4, "big") + key.secret
    return (4 + len(body)).to_bytes(4, "big") + body


def _read_body(length: int, code: int, body: bytes) -> Packet:
    if code == CANCEL_CODE:
        return CancelRequest(length, read_key(body))
    if code in (SSL_CODE, GSSENC_CODE):
        if body:
            raise ProtocolViolation("encryption request with a body")
        return SslRequest() if code == SSL_CODE else GssEncRequest()
    if code >> 16 != PROTOCOL_MAJOR:
        raise ProtocolViolation(
            f"unsupported frontend protocol {code >> 16}.{code & 0xFFFF}: pgherd speaks 3.x",
            "0A000",
        )
    return StartupMessage(length, code & 0xFFFF, _read_parameters(body))


def read_key(body: bytes) -> CancelKey:
    """Process id and secret, as BackendKeyData and CancelRequest both carry them."""
    secret = body[4:]
    if not 1 <= len(secret) <= CANCEL_KEY_BYTES_MAX:
        raise ProtocolViolation(f"cancel key of {len(secret)} bytes")
    return CancelKey(int.from_bytes(body[:4], "big"), secret)


def _read_parameters(body: bytes) -> tuple[tuple[str, str], ...]:
    """Name and value alternate, each ended by a zero; an empty name ends the list."""
    parts = body.split(b"\0")
    if len(parts) < 2 or parts[-1] or parts[-2]:
        raise ProtocolViolation("startup packet without its terminator")
    texts = [part.decode("utf-8", "surrogateescape") for part in parts[:-2]]
    names, values = texts[0::2], texts[1::2]
    if len(names) != len(values) or not all(names):
        raise ProtocolViolation("startup packet with an odd parameter list")
    return tuple(zip(names, values, strict=True))
