"""The REST API, as keys: where it listens, and who may call it by token, certificate and address.

Owns their form. What a role may do is `api.guard`'s.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pgherd.config.fields import Change, FilePath, Flag, Host, Key, NetworkRef, Port
from pgherd.config.problems import Wrong
from pgherd.config.section import Section
from pgherd.config.tls import ServerTls

LIVE, RELOAD = Change.LIVE, Change.RELOAD
CHANGES_PER_MINUTE = 100


class ApiTls(ServerTls):
    """Certificate files of the API, and whose clients' certificates it takes."""

    ca: Annotated[
        FilePath | None,
        Key(
            "Authorities whose certificates clients may show; null: none are taken.", Change.RELOAD
        ),
    ] = None


class Client(Section):
    """A client certificate that is known by name: its common name, or one of its other names."""

    name: Annotated[
        str,
        Key("Common name, DNS name, e-mail address or URI."),
        Field(min_length=1, max_length=256),
    ]
    role: Annotated[
        Literal["none", "viewer", "operator", "admin"], Key("What it may do; none: nothing.")
    ]


class Token(Section):
    """A bearer token of the API, kept as a hash."""

    name: Annotated[str, Key("Who carries it; stands in the audit record.")]
    role: Annotated[Literal["viewer", "operator", "admin"], Key("What it may do.")]
    sha256: Annotated[str, Key("SHA-256 of the token, in hex.")]

    @field_validator("sha256", mode="after")
    @classmethod
    def _hex(cls, value: str) -> str:
        if len(value) != 64 or set(value.lower()) - set("0123456789abcdef"):
            raise Wrong("is not a SHA-256 in hex", "printf %s TOKEN | sha256sum")
        return value.lower()


class Api(Section):
    """The REST API."""

    port: Annotated[Port, Key("Port of the API, its health checks and /metrics.")] = 8008
    bind: Annotated[Host | None, Key("Address to bind; null: the one of node.address.")] = None
    tls: Annotated[ApiTls | None, Key("Serve HTTPS with these files: {cert, key, ca}.", RELOAD)] = (
        None
    )
    tokens: Annotated[
        tuple[Token, ...],
        Key("Who may do what: {name, role: viewer|operator|admin, sha256}.", LIVE),
    ] = ()
    clients: Annotated[
        tuple[Client, ...],
        Key(
            "Roles of client certificates by name: {name, role: none|viewer|operator|admin}.", LIVE
        ),
    ] = ()
    allow: Annotated[
        tuple[NetworkRef, ...],
        Key(
            "Networks that may call the API, as [10.0.1.0/24, 'fd00::/8']; []: all. This machine"
            " always may, and anybody may ask the health checks.",
            LIVE,
        ),
    ] = ()
    protect_reads: Annotated[
        Flag, Key("Reads need a token or certificate too, once there are any.", LIVE)
    ] = True
    protect_metrics: Annotated[Flag, Key("/metrics is such a read.", LIVE)] = False
    rate_limit: Annotated[
        int,
        Key("Changes that one address may ask for in a minute; 0: any number.", LIVE, least=0),
    ] = CHANGES_PER_MINUTE
