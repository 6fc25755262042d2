"""The certificate that clients see where the proxy ends TLS, read again when its files change.

Owns TLS contexts, of both sides. A change is noticed at the next client, by a look at the files
(inode, size, time); a pair that does not fit, as in the moment between two copies, is said once and
the last good one stays. Servers are not checked against an authority: what proves a server is that
it knows the client's verifier, and inside TLS that proof is bound to its certificate.
"""

from __future__ import annotations

import os
import ssl

from pgherd.relay.journal import say
from pgherd.relay.messages import ProxyTls
from pgherd.wire.endpoint import end_point

Stamp = tuple[tuple[int, int, int], ...]


class CertificateError(Exception):
    """The files cannot be used; the text names them."""


class Certificate:
    """A context for clients, and the hash that logins are bound to."""

    __slots__ = ("context", "end_point")

    def __init__(self, files: ProxyTls) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(files.cert, files.key)
            with open(files.cert, encoding="ascii", errors="replace") as opened:
                pem = opened.read()
            begin = pem.index(ssl.PEM_HEADER)
            first = pem[begin : pem.index(ssl.PEM_FOOTER, begin) + len(ssl.PEM_FOOTER)]
            self.end_point = end_point(ssl.PEM_cert_to_DER_cert(first))
        except (OSError, ValueError) as error:
            text = f"proxy.tls: {files.cert} and {files.key} cannot be used: {error}"
            raise CertificateError(text) from error
        self.context = context


class Certificates:
    """The certificate of now."""

    def __init__(self) -> None:
        self._files: ProxyTls | None = None
        self._certificate: Certificate | None = None
        self._stamp: Stamp = ()
        self._servers: ssl.SSLContext | None = None

    @property
    def is_needed(self) -> bool:
        """Whether a client must come with TLS."""
        return self._files is not None and self._files.required

    def configure(self, files: ProxyTls | None) -> None:
        """Take other files, or none. Raises CertificateError and keeps what was."""
        if files is None:
            self._files = self._certificate = None
            return
        stamp = _stamp(files)
        self._certificate = Certificate(files)
        self._files, self._stamp = files, stamp

    def current(self) -> Certificate | None:
        """What a client is shown now; None where TLS is not offered."""
        files = self._files
        if files is not None and (stamp := _stamp(files)) != self._stamp:
            self._stamp = stamp
            try:
                self._certificate = Certificate(files)
            except CertificateError as error:
                say("certificate.kept", why=error)
            else:
                say("certificate.renewed", cert=files.cert)
        return self._certificate

    def for_servers(self) -> ssl.SSLContext:
        """What servers are met with."""
        if self._servers is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self._servers = context
        return self._servers


def server_end_point(found: ssl.SSLObject | None) -> bytes:
    """The hash of the certificate that a server showed."""
    certificate = found.getpeercert(binary_form=True) if found is not None else None
    return end_point(certificate) if certificate else b""


def _stamp(files: ProxyTls) -> Stamp:
    found = []
    for file in (files.cert, files.key):
        try:
            seen = os.stat(file)
        except OSError:
            found.append((0, 0, 0))
        else:
            found.append((seen.st_ino, seen.st_size, seen.st_mtime_ns))
    return tuple(found)
