"""`pgherd dsn` and `pgherd psql`: the way to the primary, or to a replica, from anywhere.

Owns the connection string: every node's address in it, so that it works while nodes are away. The
password is libpq's business (PGPASSWORD, ~/.pgpass, a prompt); on a node psql gets that of its
configuration, in the environment and nowhere else, and only where it asked that node's own cluster.
"""

from __future__ import annotations

import os
import shutil
from typing import Annotated, Any
from urllib.parse import quote

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.changing import tell
from pgherd.cli.client import is_sent_elsewhere, read_settings, readable
from pgherd.cli.start import find_config
from pgherd.model.errors import OperatorError, PgherdError

ReplicaOption = Annotated[bool, typer.Option("--replica", help="A replica, to read from.")]
DirectOption = Annotated[
    bool, typer.Option("--direct", help="The servers themselves, past the proxies.")
]
UserOption = Annotated[str, typer.Option("--user", "-U", help="Role to log in as.")]
DatabaseOption = Annotated[str, typer.Option("--dbname", "-d", help="Database.")]


@asking
def dsn(
    common: Common,
    replica: ReplicaOption = False,
    direct: DirectOption = False,
    user: UserOption = "postgres",
    dbname: DatabaseOption = "postgres",
    uri: Annotated[bool, typer.Option("--uri", help="As postgresql://...")] = False,
) -> None:
    """The connection string for applications, with every node in it."""
    found = target(common, replica=replica, direct=direct, user=user, dbname=dbname)
    text = as_uri(found) if uri else as_words(found)
    tell(common, {"dsn": text, **found}, text)


@asking
def psql(
    common: Common,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGUMENTS]", help="For psql itself.")
    ] = None,
    replica: ReplicaOption = False,
    direct: DirectOption = False,
    user: UserOption = "postgres",
    dbname: DatabaseOption = "postgres",
) -> None:
    """Run psql on the primary, or on a replica."""
    found = target(common, replica=replica, direct=direct, user=user, dbname=dbname)
    program = shutil.which("psql")
    if program is None:
        raise OperatorError("there is no psql on PATH", "install it, or take: pgherd dsn")
    environment = dict(os.environ)
    if "PGPASSWORD" not in environment and (secret := own_password(common, user)):
        environment["PGPASSWORD"] = secret
    os.execve(program, [program, as_words(found), *(words or [])], environment)


def target(
    common: Common, *, replica: bool, direct: bool, user: str, dbname: str
) -> dict[str, Any]:
    """The parameters of a connection, in libpq's names."""
    way = "direct" if direct else "replica" if replica else "primary"
    doors = common.api().get("/api/v1/connect", way=way)["doors"]
    found = {
        "host": ",".join(door["host"] for door in doors),
        "port": ",".join(str(door["port"]) for door in doors),
        "user": user,
        "dbname": dbname,
        "connect_timeout": "5",
    }
    if direct:
        found["target_session_attrs"] = "prefer-standby" if replica else "read-write"
    return found


def as_words(found: dict[str, Any]) -> str:
    """As libpq's keywords; values with blanks or quotes are quoted."""
    return " ".join(f"{name}={quoted(str(value))}" for name, value in found.items())


def quoted(value: str) -> str:
    """One value of a connection string."""
    if value and not any(mark in value for mark in " '\\"):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def as_uri(found: dict[str, Any]) -> str:
    """As an address, for what takes only those."""
    hosts, ports = found["host"].split(","), found["port"].split(",")
    places = ",".join(
        f"{f'[{host}]' if ':' in host else host}:{port}"
        for host, port in zip(hosts, ports, strict=True)
    )
    more = [
        f"{name}={found[name]}"
        for name in ("connect_timeout", "target_session_attrs")
        if name in found
    ]
    user, database = quote(found["user"], safe=""), quote(found["dbname"], safe="")
    return f"postgresql://{user}@{places}/{database}?{'&'.join(more)}"


def own_password(common: Common, user: str) -> str:
    """The password that this node's configuration has for a role; "" where it has none for us.

    Another cluster's servers are never shown it: they could keep what a client sends in clear text.
    """
    if is_sent_elsewhere(api_url=common.api_url, context=common.context):
        return ""
    path = find_config(common.config)
    if path is None or not readable(path):
        return ""
    try:
        role = read_settings(path).postgresql.superuser
        return role.password.reveal() if role.password and role.username == user else ""
    except (PgherdError, OSError):
        return ""


COMMANDS: dict[str, Command] = {"dsn": dsn, "psql": psql}
