"""Proves which hash a certificate is bound by, on certificates of every usual kind."""

from __future__ import annotations

import datetime
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from pgherd.wire.endpoint import end_point

RSA = rsa.generate_private_key(65537, 2048)
CURVE = ec.generate_private_key(ec.SECP256R1())


def certificate(key, algorithm) -> bytes:
    """A self-signed certificate in DER form."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x" * 60)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, now, now)
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


@pytest.mark.parametrize("key", [RSA, CURVE], ids=["rsa", "ec"])
@pytest.mark.parametrize("name", ["sha224", "sha256", "sha384", "sha512"])
def test_the_hash_is_that_of_the_signature(key, name: str) -> None:
    """RFC 5929, 4.1."""
    made = certificate(key, getattr(hashes, name.upper())())
    assert end_point(made) == hashlib.new(name, made).digest()


def test_a_signature_without_a_hash_binds_nothing() -> None:
    """Then no binding is offered, instead of one that clients cannot compute."""
    assert end_point(certificate(ed25519.Ed25519PrivateKey.generate(), None)) == b""


@given(st.binary(max_size=60), st.integers(0, 2000), st.binary(max_size=4))
def test_what_is_no_certificate_binds_nothing(noise: bytes, at: int, change: bytes) -> None:
    """Noise, and a certificate with a hole in it."""
    assert end_point(noise) == b""
    cut = DER[:at]
    if cut != DER:
        assert end_point(cut) in (b"", hashlib.sha256(cut).digest())
    assert len(end_point(DER[:at] + change + DER[at:])) in (0, 28, 32, 48, 64)


DER = certificate(CURVE, hashes.SHA256())
