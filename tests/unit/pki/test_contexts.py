"""Prove that TLS files are checked clearly, and that joining trusts exactly the token's CA."""

from __future__ import annotations

import http.client
import http.server
import os
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgherd.model.errors import OperatorError, PeerError
from pgherd.model.ids import NodeId
from pgherd.pki.authority import Authority, fingerprint, make_ca, make_node_certificate
from pgherd.pki.contexts import (
    CA_PATH,
    certificate_name,
    client_context,
    context_pinned,
    server_context,
    trust_only,
)
from pgherd.pki.files import TlsFiles, write_private

A = NodeId("a")


def put(directory: Path, ca: Authority, node: NodeId = A) -> TlsFiles:
    directory.mkdir(exist_ok=True)
    issued = make_node_certificate(ca, node, ["127.0.0.1"])
    files = TlsFiles(*(str(directory / name) for name in ("crt", "key", "ca")))
    write_private(files.certificate, issued.certificate_pem)
    write_private(files.key, issued.key_pem)
    write_private(files.ca, ca.certificate_pem)
    return files


class Api(http.server.BaseHTTPRequestHandler):
    """Serves what the test says under the CA's path."""

    answer: bytes
    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.path)
        self.send_response(200 if self.path == CA_PATH else 404)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def ca() -> Authority:
    return make_ca("test")


@pytest.fixture
def api(tmp_path: Path, ca: Authority) -> Iterator[http.server.HTTPServer]:
    """A TLS server of the cluster that asks for no client certificate, as the API does."""
    files = put(tmp_path / "api", ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    Api.answer, Api.seen = ca.certificate_pem, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def pinned(api: http.server.HTTPServer, sha256: str) -> ssl.SSLContext:
    return context_pinned(host="127.0.0.1", port=api.server_port, ca_sha256=sha256, timeout_s=5)


def test_a_pinned_context_reaches_only_this_cluster(
    api: http.server.HTTPServer, ca: Authority, tmp_path: Path
) -> None:
    """With the right hash the same server verifies; a server of another CA does not."""
    context = pinned(api, fingerprint(ca.certificate_pem))
    caller = http.client.HTTPSConnection("127.0.0.1", api.server_port, context=context, timeout=5)
    caller.request("GET", CA_PATH)
    assert caller.getresponse().read() == ca.certificate_pem
    caller.close()
    stranger = make_ca("test")
    wrong = trust_only(stranger.certificate_pem, fingerprint(stranger.certificate_pem))
    caller = http.client.HTTPSConnection("127.0.0.1", api.server_port, context=wrong, timeout=5)
    with pytest.raises(ssl.SSLCertVerificationError):
        caller.request("GET", CA_PATH)


def test_a_man_in_the_middle_is_noticed_before_the_secret(
    api: http.server.HTTPServer, ca: Authority
) -> None:
    """Another CA than the token's is refused, and one that hides behind the right one unused."""
    right, evil = ca.certificate_pem, make_ca("test").certificate_pem
    for Api.answer in (evil, evil + right):
        with pytest.raises(OperatorError, match="another cluster"):
            pinned(api, fingerprint(right))
    Api.answer = right + evil
    context = pinned(api, fingerprint(right))
    assert context.get_ca_certs(binary_form=True) == [ssl.PEM_cert_to_DER_cert(right.decode())]
    assert set(Api.seen) == {CA_PATH}


def test_what_is_no_certificate_or_no_api_is_a_clear_error(api: http.server.HTTPServer) -> None:
    """Noise, an empty answer, and a closed port."""
    for answer in (b"", b"<html>", b"\xff\xfe"):
        Api.answer = answer
        with pytest.raises(PeerError, match="cannot be read"):
            pinned(api, "ab" * 32)
    with pytest.raises(PeerError, match=r"cannot reach 127.0.0.1:1"):
        context_pinned(host="127.0.0.1", port=1, ca_sha256="", timeout_s=5)


def test_unreadable_and_mismatched_files_are_named(tmp_path: Path, ca: Authority) -> None:
    """The error says which file, for a missing one, a foreign key, and a CA that is none."""
    files = put(tmp_path / "a", ca)
    other = put(tmp_path / "b", ca)
    with pytest.raises(OperatorError, match=r"cannot read .*missing"):
        client_context(TlsFiles(files.certificate, str(tmp_path / "missing"), files.ca))
    with pytest.raises(OperatorError, match="do not fit together"):
        server_context(TlsFiles(files.certificate, other.key, files.ca))
    with pytest.raises(OperatorError, match=r"CA certificate .* cannot be read"):
        server_context(TlsFiles(files.certificate, files.key, os.devnull))


def test_the_name_of_a_certificate_is_its_common_name() -> None:
    """DNS names count only when there is no common name; doubt is nobody."""
    dns = (("DNS", "b"), ("DNS", "c"))
    assert certificate_name({"subject": ((("commonName", "a"),),), "subjectAltName": dns}) == "a"
    assert certificate_name({"subject": (), "subjectAltName": dns}) == "b"
    two = ((("commonName", "a"),), (("commonName", "b"),))
    assert certificate_name({"subject": two, "subjectAltName": dns}) is None
    assert certificate_name({}) is None
    assert certificate_name(None) is None
