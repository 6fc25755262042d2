"""What `pgherd config generate --for` writes beside the defaults: prod, dev or witness.

Owns the values of each purpose and the sentence at the head of its file. Leaves the form of the
file to `config.generate`, the layout on disk to `place`. Makes no file, so that what a file names
(certificates, passwords) may come from `pgherd init` and `join`, or from an authority of your own.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pgherd.cli import place as places
from pgherd.cli.founding import check_name, joined, read
from pgherd.cli.place import Place
from pgherd.cli.purpose import Purpose

LOOPBACK = "127.0.0.1"
PASSWORD = "development"
ROLES = ("superuser", "replication")


class Wish(msgspec.Struct, frozen=True):
    """What was asked for. values: of --set, which count before ours."""

    name: str
    address: str
    cluster: str
    base_port: int | None = None
    values: dict[str, Any] = {}


class Written(msgspec.Struct, frozen=True):
    """The values of a file. token: the admin's, where one was made for it."""

    head: str
    values: dict[str, Any]
    token: str = ""


HEADS = {
    Purpose.PROD: """\
# A data node of production: TLS between members, for clients and for the API, sessions that end at
# the proxy. It names certificates and passwords that must be there before it is valid: pgherd init
# and pgherd join make them (and such a file), or an authority of your own. raft.members is what the
# first nodes of a new cluster agree on, the same on each; a node that joins leaves it empty.
""",
    Purpose.DEV: """\
# One node for development, on loopback alone: no TLS, no token, a password that everybody knows.
# Not for a machine that others log in to. Start it: pgherd start --config FILE
""",
    Purpose.WITNESS: """\
# A node that only votes: no data, no ways in for clients, no password of PostgreSQL. It names
# certificates that pgherd join --witness makes (and such a file), or an authority of your own.
""",
}


def write(purpose: Purpose, place: Place, wish: Wish) -> Written:
    """The values of a file for a purpose; OperatorError where the wish makes no valid node."""
    check_name(wish.name)
    values = places.base_values(
        place,
        name=wish.name,
        address=wish.address,
        cluster=wish.cluster,
        base_port=wish.base_port,
    )
    token = ""
    match purpose:
        case Purpose.PROD:
            values["postgresql.tls"] = places.postgres_tls(place)
            values |= places.proxy_tls(place, values["proxy.listeners"])
        case Purpose.WITNESS:
            values["node.witness"] = True
            values["proxy.listeners"] = []
            values |= {f"postgresql.{role}.password": None for role in ROLES}
        case Purpose.DEV:
            values |= {"raft.tls": None, "api.tls": None}
            values |= {f"postgresql.{role}.password": PASSWORD for role in ROLES}
            values["proxy.listeners"] = [
                {**one, "pool": "none"} for one in values["proxy.listeners"]
            ]
    if purpose is not Purpose.DEV and "api.tokens" not in wish.values:
        from pgherd.pki.token import hash_secret, new_secret

        token = new_secret()
        values["api.tokens"] = [{"name": "admin", "role": "admin", "sha256": hash_secret(token)}]
    values |= wish.values
    settings = read(values)
    if purpose is Purpose.DEV:
        seat = f"{settings.node.name}={joined(places.address_of(settings).raft())}"
        values.setdefault("raft.members", [seat])
    return Written(head=HEADS[purpose], values=values, token=token)
