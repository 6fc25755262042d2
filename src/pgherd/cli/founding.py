"""`pgherd init`: make the first node of a cluster: authority, certificate, secrets, configuration.

Owns the order: everything is thought through and checked first, then all files are written, then
(with --start) the node is started and verified. Leaves the database itself to the daemon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pgherd.api.joining import hosts_of
from pgherd.cli import place as places
from pgherd.cli.output import say
from pgherd.cli.place import File, Place
from pgherd.model.errors import OperatorError
from pgherd.model.ids import NodeId, name_is_valid
from pgherd.peer.resolve import is_address

if TYPE_CHECKING:
    from pgherd.config.settings import Settings

NAMED_BY_ADDRESS = 15
"""From this major version on libpq finds an address in a certificate."""


class Founding(msgspec.Struct, frozen=True):
    """What was asked for. adopts: the data directory is there already, with its own superuser ·
    login: the password of the remote primary's replication role, for a standby cluster, whose
    roles are the remote's.
    """

    name: str
    address: str
    cluster: str
    base_port: int | None = None
    values: dict[str, Any] = {}
    adopts: bool = False
    login: str = ""


class Made(msgspec.Struct, frozen=True):
    """A node whose files are written."""

    place: Place
    settings: Any
    user: str | None


def found(place: Place, wish: Founding) -> Made:
    """Make the first node's files, or raise OperatorError and change nothing."""
    from pgherd.pki.authority import make_ca, make_node_certificate
    from pgherd.pki.token import hash_secret, new_secret

    check_name(wish.name)
    token, has_roles = new_secret(), wish.adopts or bool(wish.login)
    values = places.base_values(
        place,
        name=wish.name,
        address=wish.address,
        cluster=wish.cluster,
        base_port=wish.base_port,
    )
    values["api.tokens"] = [{"name": "admin", "role": "admin", "sha256": hash_secret(token)}]
    values |= wish.values
    settings = read(values)
    seat = f"{wish.name}={joined(places.address_of(settings).raft())}"
    values.setdefault("raft.members", [seat])
    text, settings = write_text(values)
    if wish.adopts:
        user: str | None = settings.postgresql.user
    else:
        user, major = prepare(place, settings)
        text, settings = write_text(encrypted(place, settings, major) | values)
    ca = make_ca(wish.cluster)
    hosts = hosts_of(places.address_of(settings))
    issued = make_node_certificate(ca, NodeId(wish.name), hosts)
    files = [
        File(place.ca, ca.certificate_pem, 0o644),
        File(place.ca_key, ca.key_pem),
        File(place.cert, issued.certificate_pem, 0o644),
        File(place.key, issued.key_pem),
        *([] if has_roles else [File(place.secret("superuser"), lined(new_secret()))]),
        File(place.secret("replication"), lined(wish.login or new_secret())),
        File(place.secret("admin.token"), lined(token)),
        File(place.config, text.encode(), 0o644),
    ]
    places.write_all(files, settings=settings, user=user, adopts=wish.adopts)
    say(f"made {place.config}, its certificates and secrets")
    return Made(place=place, settings=settings, user=user)


def encrypted(place: Place, settings: Settings, major: int) -> dict[str, Any]:
    """The keys that have clients and members of a new cluster use TLS, where it can be had."""
    found = places.proxy_tls(place, settings.proxy.listeners)
    if not settings.has_server:
        return found
    why = ""
    if not speaks_tls(settings):
        why = "this build of it has no OpenSSL"
    elif major < NAMED_BY_ADDRESS and is_address(settings.node.address.advertised("postgresql")):
        why = f"version {major} knows peers in certificates by host name only; see --address"
    if why:
        say(f"PostgreSQL's own TLS stays off, replication is not encrypted: {why}")
        return found
    return found | {"postgresql.tls": places.postgres_tls(place)}


def speaks_tls(settings: Settings) -> bool:
    """Whether PostgreSQL here was built with OpenSSL."""
    from pgherd.postgres import binaries, identity

    user = identity.resolve(settings.postgresql.user)
    return binaries.find(str(settings.postgresql.bin_dir), user=user).has_tls


def check_name(name: str) -> None:
    if not name_is_valid(name):
        raise OperatorError(
            f"{name!r} is not a node name",
            "a small letter, then small letters, digits or '-', at most 32: --name n1",
        )


def read(values: dict[str, Any]) -> Settings:
    """The settings that these values make."""
    return write_text(values)[1]


def write_text(values: dict[str, Any], *, without: str = "") -> tuple[str, Settings]:
    """The text of a configuration, but for one section, and what it says."""
    from pgherd.config.generate import generate
    from pgherd.config.load import load_text

    text = generate(values, without=without)
    return text, load_text(text, file="the new configuration")


def prepare(place: Place, settings: Settings, *, moves: bool = False) -> tuple[str | None, int]:
    """Refuse what can be refused before a file is written.

    moves: a data directory that is there already will be moved aside.
    Returns the user that PostgreSQL will run as (None: ourselves) and the major version that is
    here (0 where it does not run).
    """
    places.check_unused(place, settings, moves=moves)
    if moves:
        places.check_movable(settings.postgresql.data_dir)
    places.check_writable(place)
    places.check_ports(settings)
    return find_postgres(settings) if settings.has_server else (None, 0)


def find_postgres(settings: Settings) -> tuple[str | None, int]:
    """The user and the major version; OperatorError where PostgreSQL cannot run here."""
    from pgherd.postgres import binaries, identity

    user = identity.resolve(settings.postgresql.user)
    name = user.name if user is not None else None
    places.check_enterable(settings, user=name)
    program = binaries.find(str(settings.postgresql.bin_dir), user=user)
    return name, program.major


def joined(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def lined(secret: str) -> bytes:
    return (secret + "\n").encode()
