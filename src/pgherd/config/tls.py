"""The files of TLS, for the three places that have some."""

from __future__ import annotations

from typing import Annotated

from pgherd.config.fields import Change, FilePath, Flag, Key
from pgherd.config.section import Section

RELOAD = Change.RELOAD


class Tls(Section):
    """Certificate files in PEM form; they are read again when they change."""

    ca: Annotated[
        FilePath, Key("Certificates of the authorities that peers are checked against.", RELOAD)
    ]
    cert: Annotated[FilePath, Key("This node's certificate, with its chain.", RELOAD)]
    key: Annotated[FilePath, Key("The certificate's private key.", RELOAD)]


class ServerTls(Section):
    """Certificate files of a server."""

    cert: Annotated[FilePath, Key("The certificate, with its chain.", RELOAD)]
    key: Annotated[FilePath, Key("The certificate's private key.", RELOAD)]


class ProxyTls(ServerTls):
    """Certificate files of listeners with pool: session, and whether clients must use them."""

    required: Annotated[Flag, Key("Refuse clients without TLS.", RELOAD)] = False
