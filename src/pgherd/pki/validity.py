"""From when until when a certificate is good, read from its DER form without `cryptography`.

Owns a walk over the first fields of RFC 5280's Certificate, no more: a running daemon must know
when its certificates end, and must stay small.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

SEQUENCE, VERSION, UTC_TIME, GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


class Validity(msgspec.Struct, frozen=True):
    """Unix times, in seconds."""

    begins_s: int
    ends_s: int


def validity(der: bytes) -> Validity:
    """Read a certificate; ValueError for what is none."""
    try:
        outer = inside(der, 0, SEQUENCE)
        body = inside(der, outer, SEQUENCE)
        place = body
        if der[place] == VERSION:
            place = after(der, place)
        for _ in ("serial number", "signature's algorithm", "issuer"):
            place = after(der, place)
        first = inside(der, place, SEQUENCE)
        return Validity(moment(der, first), moment(der, after(der, first)))
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError("not a certificate") from error


def header(der: bytes, place: int) -> tuple[int, int]:
    """Where the content of an element begins, and its length."""
    length, begin = der[place + 1], place + 2
    if length & 0x80:
        count = length & 0x7F
        length, begin = int.from_bytes(der[begin : begin + count], "big"), begin + count
    return begin, length


def inside(der: bytes, place: int, kind: int) -> int:
    """Where the content of an element of this kind begins."""
    if der[place] != kind:
        raise ValueError("not a certificate")
    return header(der, place)[0]


def after(der: bytes, place: int) -> int:
    """Where the next element begins."""
    begin, length = header(der, place)
    return begin + length


def moment(der: bytes, place: int) -> int:
    """A time: UTCTime has two digits for the year, of 1950 to 2049."""
    begin, length = header(der, place)
    text = der[begin : begin + length].decode("ascii")
    if der[place] == UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif der[place] != GENERALIZED_TIME:
        raise ValueError("not a certificate")
    return int(datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp())
