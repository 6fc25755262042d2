"""The cluster's own certificate authority: make it, and have it sign node certificates.

A node's name is the common name (CN) of its certificate, and only the signer writes it: names in
a request's subject are never taken over. Keys are ECDSA P-256.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from pgherd.model.errors import OperatorError
from pgherd.model.ids import NodeId, name_is_valid
from pgherd.pki.clients import MARK

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

CA_DAYS = 3650
NODE_DAYS = 3650
CLOCK_SKEW = datetime.timedelta(minutes=10)
"""Certificates begin this much earlier, for nodes whose clock is behind."""


class Authority(NamedTuple):
    """A CA's certificate and private key as PEM."""

    certificate_pem: bytes
    key_pem: bytes


class Issued(NamedTuple):
    """A node's certificate and private key as PEM."""

    certificate_pem: bytes
    key_pem: bytes


class Request(NamedTuple):
    """A signing request as PEM and the private key that stays on the node."""

    csr_pem: bytes
    key_pem: bytes


def make_ca(
    cluster: str, *, days: int = CA_DAYS, now: datetime.datetime | None = None
) -> Authority:
    """Make a new authority for a cluster."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    key = _new_key()
    name = _name(f"pgherd CA {cluster}"[:64])
    public = key.public_key()
    builder = _builder(name, name, public, days=days, now=now)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(_certificate_pem(certificate), _key_pem(key))


def make_node_certificate(
    ca: Authority,
    node: NodeId,
    hosts: Iterable[str],
    *,
    days: int = NODE_DAYS,
    now: datetime.datetime | None = None,
) -> Issued:
    """Make key and certificate for a node; hosts are names and IP addresses it is reached by."""
    key = _new_key()
    certificate = _sign(ca, key.public_key(), node=node, hosts=hosts, days=days, now=now)
    return Issued(certificate, _key_pem(key))


def make_client_certificate(
    ca: Authority,
    name: str,
    role: str,
    *,
    days: int,
    now: datetime.datetime | None = None,
) -> Issued:
    """Make key and certificate for a client of the API: its mark keeps it from being a node's."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key, issuer = _new_key(), x509.load_pem_x509_certificate(ca.certificate_pem)
    issuer_key = serialization.load_pem_private_key(ca.key_pem, password=None)
    assert isinstance(issuer_key, EllipticCurvePrivateKey)
    mark = x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, MARK + role)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name), mark])
    certificate = (
        _builder(subject, issuer.subject, key.public_key(), days=days, now=now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return Issued(_certificate_pem(certificate), _key_pem(key))


def make_request(node: NodeId, hosts: Iterable[str]) -> Request:
    """Make a key and a request for its certificate; the key never leaves the node."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    key = _new_key()
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(node))
    builder = builder.add_extension(_alternative_names(node, hosts), critical=False)
    csr = builder.sign(key, hashes.SHA256())
    return Request(csr.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def sign_request(
    ca: Authority,
    csr_pem: bytes,
    *,
    node: NodeId,
    hosts: Iterable[str],
    days: int = NODE_DAYS,
    now: datetime.datetime | None = None,
) -> bytes:
    """Sign a request for `node`: the request gives only the key, never the name or the hosts."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        is_proven = csr.is_signature_valid
        public = csr.public_key()
    except Exception as error:
        raise OperatorError(f"the certificate request cannot be read: {error}") from error
    if not is_proven or not isinstance(public, EllipticCurvePublicKey):
        raise OperatorError("the certificate request is not signed by its own ECDSA key")
    return _sign(ca, public, node=node, hosts=hosts, days=days, now=now)


def fingerprint(certificate_pem: bytes) -> str:
    """The SHA-256 of the certificate (DER), as 64 hexadecimal digits."""
    return hashlib.sha256(first_certificate(certificate_pem)).hexdigest()


def first_certificate(pem: bytes) -> bytes:
    """The DER bytes of the first certificate of a PEM text; ValueError when there is none."""
    begin, end = pem.find(ssl.PEM_HEADER.encode()), pem.find(ssl.PEM_FOOTER.encode())
    if not 0 <= begin < end:
        raise ValueError("no certificate in PEM form")
    return ssl.PEM_cert_to_DER_cert(pem[begin:end].decode("ascii") + ssl.PEM_FOOTER)


def expires_at(certificate_pem: bytes) -> datetime.datetime:
    """When a certificate ends (UTC)."""
    from cryptography import x509

    return x509.load_pem_x509_certificate(certificate_pem).not_valid_after_utc


def _sign(
    ca: Authority,
    public: CertificatePublicKeyTypes,
    *,
    node: NodeId,
    hosts: Iterable[str],
    days: int,
    now: datetime.datetime | None,
) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509.oid import ExtendedKeyUsageOID

    if not name_is_valid(node):
        raise OperatorError(f"{node!r} is not a valid node name")
    issuer = x509.load_pem_x509_certificate(ca.certificate_pem)
    issuer_key = serialization.load_pem_private_key(ca.key_pem, password=None)
    assert isinstance(issuer_key, EllipticCurvePrivateKey)
    uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    certificate = (
        _builder(_name(node), issuer.subject, public, days=days, now=now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(uses, critical=False)
        .add_extension(_alternative_names(node, hosts), critical=False)
        .add_extension(authority, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return _certificate_pem(certificate)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: CertificatePublicKeyTypes,
    *,
    days: int,
    now: datetime.datetime | None,
) -> x509.CertificateBuilder:
    from cryptography import x509

    begin = now or datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
    builder = builder.public_key(public).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(begin - CLOCK_SKEW)
    return builder.not_valid_after(begin + datetime.timedelta(days=days))


def _alternative_names(node: NodeId, hosts: Iterable[str]) -> x509.SubjectAlternativeName:
    from cryptography import x509

    names: list[x509.GeneralName] = [x509.DNSName(node)]
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            if host != node:
                names.append(x509.DNSName(_dns(host)))
    return x509.SubjectAlternativeName(names)


def _dns(host: str) -> str:
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise OperatorError(f"{host!r} is not a host name") from error


def _usage(*, ca: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM)
