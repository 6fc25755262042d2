"""The files of TLS, for the places that have some."""

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


class PostgresTls(Tls):
    """Certificate files of PostgreSQL, and whether other members must use them."""

    required: Annotated[
        Flag,
        Key(
            "Members stream, copy and rewind by TLS only, and check each other's certificate and"
            " host name. false: TLS where it is offered, until all members have it.",
            RELOAD,
        ),
    ] = True
