"""TLS contexts: both directions between nodes, and the pinned one of `pgherd join`.

Between nodes both sides must show a certificate of the cluster's CA, TLS 1.3 only. Host names are
not checked there: a node is who its certificate's common name says, wherever it runs.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import ssl

from pgherd.model.errors import OperatorError, PeerError
from pgherd.model.ids import NodeId
from pgherd.pki.authority import first_certificate
from pgherd.pki.clients import is_clients
from pgherd.pki.files import TlsFiles
from pgherd.pki.trying import refusal

CA_PATH = "/api/v1/join/ca"
CA_BYTES_MAX = 65536


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For the peer port: refuses whoever shows no certificate of our CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return _load(context, files)


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """For calling a peer: shows our certificate, checks the other's against our CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the caller compares certificate_name with the node's name
    return _load(context, files)


def certificate_name(certificate: object) -> NodeId | None:
    """The node that a verified certificate (getpeercert()) belongs to: its common name.

    Only without one the first DNS name counts: host names are asked for by whoever joins, and
    must never make it another node. A client's certificate is no node's, whatever its name.
    """
    if not isinstance(certificate, dict):
        return None
    if is_clients(certificate):
        return None
    pairs = [pair for group in certificate.get("subject", ()) for pair in group]
    names = [str(value) for key, value in pairs if key == "commonName"]
    if not names:
        names = [str(value) for key, value in certificate.get("subjectAltName", ()) if key == "DNS"]
        names = names[:1]
    return NodeId(names[0]) if len(names) == 1 else None


class Contexts:
    """Both contexts of a node, read again when a file has changed."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen: tuple[tuple[int, int, int], ...] = ()
        self._server: ssl.SSLContext | None = None
        self._client: ssl.SSLContext | None = None

    def server(self) -> ssl.SSLContext:
        """The context for connections that others open."""
        self._refresh()
        assert self._server is not None
        return self._server

    def client(self) -> ssl.SSLContext:
        """The context for connections that we open."""
        self._refresh()
        assert self._client is not None
        return self._client

    def use(self, files: TlsFiles) -> None:
        """Other files from the next connection on; while they cannot be used, the ones before."""
        if files != self._files:
            self._files, self._seen = files, ()

    def _refresh(self) -> None:
        """Load changed files; while they would be refused by peers the old ones stay in use.

        So neither half a copy nor a certificate of another authority cuts a node off.
        """
        seen = tuple(
            _stamp(path) for path in (self._files.certificate, self._files.key, self._files.ca)
        )
        if seen == self._seen:
            return
        try:
            server, client = server_context(self._files), client_context(self._files)
        except OperatorError:
            if self._server is None:
                raise
            return
        if self._server is not None and refusal(server, client):
            return
        self._server, self._client, self._seen = server, client, seen


def context_pinned(
    *, host: str, port: int, ca_sha256: str, timeout_s: float, path: str = CA_PATH
) -> ssl.SSLContext:
    """A context that trusts only the CA whose SHA-256 the join token carries. Blocking.

    The CA certificate is fetched over a connection that trusts nobody, and is used only if its
    hash is the token's. That is safe because a certificate is public, nothing secret is sent
    before, and whoever answers can choose bytes but not their SHA-256. The connection made with
    the returned context then proves that the other side holds a key which this CA signed; only
    that one may carry the secret. Exactly the bytes that were hashed are trusted: anything else
    in the answer is dropped.
    """
    import http.client

    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=blind)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(CA_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise PeerError(f"cannot reach {host}:{port}: {error}", "check address and port") from error
    finally:
        connection.close()
    if response.status != 200:
        raise PeerError(f"{host}:{port} answered {response.status}, is it a pgherd API?")
    return trust_only(body, ca_sha256)


def trust_only(ca_pem: bytes, ca_sha256: str) -> ssl.SSLContext:
    """A context for exactly this CA if it has this SHA-256, else OperatorError."""
    try:
        der = first_certificate(ca_pem)
    except ValueError as error:
        raise PeerError(f"the CA certificate cannot be read: {error}") from error
    if not hmac.compare_digest(hashlib.sha256(der).hexdigest(), ca_sha256.lower()):
        raise OperatorError(
            "that node belongs to another cluster than the join token, or somebody is in between",
            "make a new token on a node of the right cluster: pgherd token create --join",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # any node of the pinned cluster may answer, under any name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=der)
    return context


def _load(context: ssl.SSLContext, files: TlsFiles) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    for path in (files.certificate, files.key, files.ca):
        if not os.access(path, os.R_OK):
            raise OperatorError(f"cannot read {path}", "check that it exists and who owns it")
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (ssl.SSLError, OSError) as error:
        raise OperatorError(
            f"certificate {files.certificate} and key {files.key} do not fit together: {error}",
            "make a new pair with: pgherd join, or restore both from the same backup",
        ) from error
    try:
        context.load_verify_locations(files.ca)
    except (ssl.SSLError, OSError) as error:
        raise OperatorError(f"CA certificate {files.ca} cannot be read: {error}") from error
    return context


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_ino, status.st_size)
