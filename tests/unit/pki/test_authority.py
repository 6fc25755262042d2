"""Prove that certificates say what the signer said, and nothing that a request asked for."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from pgherd.model.errors import OperatorError
from pgherd.model.ids import NodeId
from pgherd.pki.authority import (
    Authority,
    expires_at,
    fingerprint,
    make_ca,
    make_node_certificate,
    make_request,
    sign_request,
)

A = NodeId("a")


@pytest.fixture(scope="module")
def ca() -> Authority:
    return make_ca("test")


def names(pem: bytes) -> tuple[str, list[str]]:
    certificate = x509.load_pem_x509_certificate(pem)
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return str(common), [str(name.value) for name in found]


def test_a_node_certificate_names_the_node_and_its_hosts(ca: Authority) -> None:
    """CN is the node; names and addresses, v6 too, become alternative names, each once."""
    hosts = ["db1.example.org", "10.0.0.1", "::1", "10.0.0.1", "a"]
    issued = make_node_certificate(ca, A, hosts, days=10)
    assert names(issued.certificate_pem) == ("a", ["a", "db1.example.org", "10.0.0.1", "::1"])
    assert expires_at(issued.certificate_pem) < expires_at(ca.certificate_pem)


def test_a_request_brings_only_its_key(ca: Authority) -> None:
    """What the signer names is in the certificate, not what the request asked for."""
    request = make_request(NodeId("evil"), ["everything.example.org"])
    signed = sign_request(ca, request.csr_pem, node=A, hosts=["10.0.0.9"])
    assert names(signed) == ("a", ["a", "10.0.0.9"])
    asked = x509.load_pem_x509_csr(request.csr_pem).public_key()
    assert x509.load_pem_x509_certificate(signed).public_key() == asked


def test_bad_requests_and_names_are_refused(ca: Authority) -> None:
    """Noise, a request with a broken signature, and a name that is none are clear errors."""
    request = make_request(A, [])
    body = bytearray(
        ssl.PEM_cert_to_DER_cert(
            request.csr_pem.decode().replace("CERTIFICATE REQUEST", "CERTIFICATE")
        )
    )
    body[-1] ^= 1
    broken = ssl.DER_cert_to_PEM_cert(bytes(body)).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    for csr in (b"noise", broken.encode()):
        with pytest.raises(OperatorError, match="certificate request"):
            sign_request(ca, csr, node=A, hosts=[])
    with pytest.raises(OperatorError, match="not a valid node name"):
        make_node_certificate(ca, NodeId("Not A Name"), [])
    with pytest.raises(OperatorError, match="not a host name"):
        make_node_certificate(ca, A, ["a..b"])


def test_the_fingerprint_is_that_of_the_der_certificate(ca: Authority) -> None:
    """As `openssl x509 -fingerprint -sha256` would say, whatever white space surrounds the PEM."""
    der = ssl.PEM_cert_to_DER_cert(ca.certificate_pem.decode())
    assert fingerprint(ca.certificate_pem) == hashlib.sha256(der).hexdigest()
    assert fingerprint(b"\n" + ca.certificate_pem + b"\n\n") == fingerprint(ca.certificate_pem)


def test_importing_the_room_does_not_load_cryptography() -> None:
    """A running daemon stays lean: `cryptography` comes with `init` and `join` only."""
    code = (
        "import sys, pgherd.pki.authority, pgherd.pki.contexts, pgherd.pki.token;"
        "import pgherd.peer.peers;"
        "sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
