"""What a SCRAM exchange is bound to: the hash of the certificate that TLS showed (RFC 5929, 4).

Owns finding the hash function in a certificate (DER, X.690): that of its signature, with SHA-256
in place of MD5 and SHA-1.
"""

from __future__ import annotations

import hashlib

_SHA256 = "sha256"
_HASHES = {
    "2a864886f70d010104": _SHA256,  # md5WithRSAEncryption
    "2a864886f70d010105": _SHA256,  # sha1WithRSAEncryption
    "2a864886f70d01010b": _SHA256,
    "2a864886f70d01010c": "sha384",
    "2a864886f70d01010d": "sha512",
    "2a864886f70d01010e": "sha224",
    "2a8648ce3d0401": _SHA256,  # ecdsa-with-SHA1
    "2a8648ce3d040301": "sha224",
    "2a8648ce3d040302": _SHA256,
    "2a8648ce3d040303": "sha384",
    "2a8648ce3d040304": "sha512",
}
"""Signature algorithms by their OID's bytes. RSA-PSS and EdDSA are left out: libpq knows no hash of
theirs either (RSA-PSS: before PostgreSQL 16), and a client that is offered the binding uses it."""

_SEQUENCE, _OID = 0x30, 0x06


def end_point(certificate: bytes) -> bytes:
    """The hash to bind to, of a certificate in DER form; b"" where there is none."""
    try:
        outer, _ = _value(certificate, 0, _SEQUENCE)
        _, after_body = _value(outer, 0, _SEQUENCE)
        algorithm, _ = _value(outer, after_body, _SEQUENCE)
        oid, _ = _value(algorithm, 0, _OID)
    except (IndexError, ValueError):
        return b""
    name = _HASHES.get(oid.hex())
    return hashlib.new(name, certificate).digest() if name is not None else b""


def _value(data: bytes, at: int, tag: int) -> tuple[bytes, int]:
    """The value of the element there, and where the next one begins."""
    if data[at] != tag:
        raise ValueError(f"tag {tag} expected")
    length, start = data[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(data[start : start + count], "big"), start + count
    end = start + length
    if end > len(data):
        raise ValueError("cut")
    return data[start:end], end
