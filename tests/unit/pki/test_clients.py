"""Prove that clients' certificates are no nodes', and that files are judged as peers do."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from pgherd.model.errors import OperatorError
from pgherd.model.ids import NodeId
from pgherd.pki.authority import (
    Authority,
    first_certificate,
    make_ca,
    make_client_certificate,
    make_node_certificate,
)
from pgherd.pki.clients import shown
from pgherd.pki.contexts import Contexts, certificate_name, client_context, server_context
from pgherd.pki.files import TlsFiles, replace_pair, write_private
from pgherd.pki.trying import refusal
from pgherd.pki.validity import validity

NODE = NodeId("n1")


@pytest.fixture
def ca() -> Authority:
    return make_ca("test")


def put(place: Path, ca: Authority, **options: object) -> TlsFiles:
    place.mkdir(exist_ok=True)
    issued = make_node_certificate(ca, NODE, ["127.0.0.1"], **options)  # type: ignore[arg-type]
    files = TlsFiles(*(str(place / name) for name in ("crt", "key", "ca")))
    write_private(files.certificate, issued.certificate_pem)
    write_private(files.key, issued.key_pem)
    write_private(files.ca, ca.certificate_pem)
    return files


def test_a_clients_certificate_names_a_person_and_never_a_node() -> None:
    """Whatever its common name is."""
    subject = ((("commonName", "n1"),), (("organizationalUnitName", "pgherd:operator"),))
    certificate = {"subject": subject, "subjectAltName": (("email", "ann@example.org"),)}
    assert certificate_name(certificate) is None
    one = shown(certificate)
    assert one is not None
    assert (one.name, one.names, one.role) == ("n1", ("n1", "ann@example.org"), "operator")
    two = {"subject": (*subject, (("organizationalUnitName", "pgherd:admin"),))}
    both = shown(two)
    assert both is not None
    assert both.role == "", "two marks are none"
    assert certificate_name(two) is None
    assert shown(None) is shown({}) is None


def test_what_is_issued_for_a_client_is_refused_as_a_servers(ca: Authority, tmp_path: Path) -> None:
    """It may only be shown by who calls."""
    files = put(tmp_path / "node", ca)
    made = make_client_certificate(ca, "ann", "admin", days=1)
    own = TlsFiles(str(tmp_path / "crt"), str(tmp_path / "key"), files.ca)
    write_private(own.certificate, made.certificate_pem)
    write_private(own.key, made.key_pem)
    assert refusal(server_context(files), client_context(own)) == ""
    assert "purpose" in refusal(server_context(own), client_context(files))


def test_validity_is_read_as_cryptography_reads_it(ca: Authority) -> None:
    """Both forms of time: from 2050 on another one is written."""
    for days in (1, 3650, 20_000):
        pem = make_node_certificate(ca, NODE, [], days=days).certificate_pem
        known = x509.load_pem_x509_certificate(pem)
        found = validity(first_certificate(pem))
        assert found.begins_s == known.not_valid_before_utc.timestamp()
        assert found.ends_s == known.not_valid_after_utc.timestamp()
    for noise in (b"", b"0", b"\x30\x03\x02\x01\x01", b"\x30\x82", bytes(range(60))):
        with pytest.raises(ValueError, match="not a certificate"):
            validity(noise)


@pytest.mark.fault(75)
def test_a_handshake_with_oneself_finds_what_peers_would_refuse(
    ca: Authority, tmp_path: Path
) -> None:
    """Expired, not yet valid, of another authority."""
    now = datetime.datetime.now(datetime.UTC)
    month = datetime.timedelta(days=30)
    good = put(tmp_path / "good", ca)
    cases = {
        "expired": put(tmp_path / "old", ca, days=1, now=now - month),
        "not yet valid": put(tmp_path / "early", ca, now=now + month),
    }
    foreign = put(tmp_path / "foreign", make_ca("test"))
    cases["certificate"] = TlsFiles(foreign.certificate, foreign.key, good.ca)
    assert refusal(server_context(good), client_context(good)) == ""
    for word, files in cases.items():
        assert word in refusal(server_context(files), client_context(files)), word


@pytest.mark.fault(75)
def test_bad_files_never_replace_good_ones(ca: Authority, tmp_path: Path) -> None:
    """A running node goes on with what it has until files come that peers would take."""
    files = put(tmp_path / "node", ca)
    contexts = Contexts(files)
    server, client = contexts.server(), contexts.client()
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=30)
    put(tmp_path / "node", ca, days=1, now=past)
    assert (contexts.server(), contexts.client()) == (server, client)
    other = make_node_certificate(make_ca("test"), NODE, [])
    replace_pair((files.key, other.key_pem), (files.certificate, other.certificate_pem))
    assert contexts.server() is server
    put(tmp_path / "node", ca)
    assert contexts.server() is not server
    assert isinstance(contexts.client(), ssl.SSLContext)


def test_a_pair_is_replaced_with_its_modes_or_not_at_all(tmp_path: Path) -> None:
    key, cert = tmp_path / "key", tmp_path / "cert"
    write_private(key, b"old")
    write_private(cert, b"old", mode=0o644)
    replace_pair((key, b"new"), (cert, b"new"))
    assert (key.read_bytes(), cert.read_bytes()) == (b"new", b"new")
    assert (key.stat().st_mode & 0o777, cert.stat().st_mode & 0o777) == (0o600, 0o644)
    with pytest.raises(OperatorError, match="cannot write"):
        replace_pair((key, b"newer"), (tmp_path / "missing", b"newer"))
    assert key.read_bytes() == b"new"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["cert", "key"]
