"""What a relay itself says to a client: error responses and the refusal of encryption.

Owns the encoding. Which error, and when, is `relay`'s.
"""

from __future__ import annotations

import msgspec

TEXT_BYTES_MAX = 2_000
"""Longest text in an error; libpq before PostgreSQL 14 takes over 30,000 bytes for garbage."""

REFUSE_ENCRYPTION = b"N"

ADMIN_SHUTDOWN = "57P01"
CANNOT_CONNECT_NOW = "57P03"
READ_ONLY = "25006"
TOO_MANY_CONNECTIONS = "53300"
OUTCOME_UNKNOWN = "08007"


class Refusal(msgspec.Struct, frozen=True):
    """Why a client is turned away or cut off, in PostgreSQL's terms."""

    sqlstate: str
    message: str
    hint: str = ""


def error_response(refusal: Refusal, *, severity: str = "FATAL") -> bytes:
    """An ErrorResponse with severity, SQLSTATE, message and hint."""
    fields = [(b"S", severity), (b"V", severity), (b"C", refusal.sqlstate)]
    fields.append((b"M", refusal.message))
    if refusal.hint:
        fields.append((b"H", refusal.hint))
    body = b"".join(name + _text(value) for name, value in fields) + b"\0"
    return b"E" + (4 + len(body)).to_bytes(4, "big") + body


def _text(value: str) -> bytes:
    encoded = value.replace("\0", "").encode("utf-8", "surrogateescape")[:TEXT_BYTES_MAX]
    return encoded.decode("utf-8", "ignore").encode() + b"\0"
