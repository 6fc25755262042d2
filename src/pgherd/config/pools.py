"""How many server connections the pools of listeners with pool: transaction have, and for how long.

Owns the keys of `proxy.pools`: sizes and times, what differs by user or database, other names for
databases and what their sessions begin with, and who may use the database `pgherd`. What they do is
`route.pooling`'s and `relay`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import PlainValidator

from pgherd.config.fields import (
    Change,
    Key,
    Millis,
    Parameter,
    parse_parameter_name,
)
from pgherd.config.problems import Wrong
from pgherd.config.section import Section
from pgherd.config.source import Path
from pgherd.route.poolrules import ADMIN_DATABASE

LIVE = Change.LIVE
NEVER_IGNORED = ("user", "database", "replication")
_FOREVER = "0ms is never"


def parse_name(value: object) -> str:
    """The name of a role or database."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise Wrong(f"{value!r} is not a name", "write a text; numbers take quotes")
    return value


def parse_session_parameter(value: object) -> str:
    """The name of a parameter that sessions may begin with."""
    name = parse_parameter_name(value)
    if name in (*NEVER_IGNORED, "options"):
        raise Wrong(f"{name} is not a parameter of PostgreSQL", "name a database with dbname")
    return name


def parse_ignored(value: object) -> str:
    """The name of a startup parameter that is not passed on."""
    name = parse_name(value).lower()
    if name in NEVER_IGNORED:
        raise Wrong(f"{name} is what a session is, and cannot be ignored", "remove it")
    return name


Name = Annotated[str, PlainValidator(parse_name)]
SessionParameter = Annotated[str, PlainValidator(parse_session_parameter)]
Ignored = Annotated[str, PlainValidator(parse_ignored)]


class UserPools(Section):
    """What is otherwise for the pools of one user."""

    size: Annotated[int | None, Key("As proxy.pools.size.", LIVE, least=1)] = None
    min_size: Annotated[int | None, Key("As proxy.pools.min_size.", LIVE, least=0)] = None
    reserve: Annotated[int | None, Key("As proxy.pools.reserve.", LIVE, least=0)] = None
    queue: Annotated[int | None, Key("As proxy.pools.queue.", LIVE, least=0)] = None
    query_wait_timeout_ms: Annotated[
        Millis | None,
        Key("As there.", LIVE, unit="duration", least=0, why=_FOREVER),
    ] = None
    idle_timeout_ms: Annotated[
        Millis | None,
        Key("As there.", LIVE, unit="duration", least=0, why=_FOREVER),
    ] = None
    lifetime_ms: Annotated[
        Millis | None,
        Key("As there.", LIVE, unit="duration", least=0, why=_FOREVER),
    ] = None
    servers: Annotated[
        int | None,
        Key("In place of proxy.pools.user_servers or database_servers.", LIVE, least=0),
    ] = None


class DatabasePools(UserPools):
    """What is otherwise for one database, by the name that clients give it."""

    dbname: Annotated[
        Name | None,
        Key("The server's name of the database, where clients give it another one.", LIVE),
    ] = None
    settings: Annotated[
        Mapping[SessionParameter, Parameter],
        Key("Parameters that its sessions begin with, unless the client names others.", LIVE),
    ] = {}


class Pools(Section):
    """Server connections of listeners with pool: transaction; a pool: one user at one database."""

    size: Annotated[int, Key("Most server connections of one pool.", LIVE, least=1)] = 20
    min_size: Annotated[
        int, Key("So many stay open, once a pool is used, though nobody needs them.", LIVE, least=0)
    ] = 0
    reserve: Annotated[
        int,
        Key("So many more for clients that have waited for reserve_timeout.", LIVE, least=0),
    ] = 0
    reserve_timeout_ms: Annotated[
        Millis,
        Key(
            "How long a client waits before one of the reserve is opened for it.",
            LIVE,
            unit="duration",
            least=0,
            why="0ms opens it at once, as if size were larger",
        ),
    ] = 5_000
    queue: Annotated[
        int, Key("Most clients that wait for one pool; 0: no limit.", LIVE, least=0)
    ] = 0
    query_wait_timeout_ms: Annotated[
        Millis,
        Key(
            "How long a client waits for a server connection, then its session ends.",
            LIVE,
            unit="duration",
            least=0,
            why=_FOREVER,
        ),
    ] = 120_000
    idle_timeout_ms: Annotated[
        Millis,
        Key(
            "A server connection beyond min_size that nobody used for so long is closed.",
            LIVE,
            unit="duration",
            least=0,
            why=_FOREVER,
        ),
    ] = 600_000
    lifetime_ms: Annotated[
        Millis,
        Key(
            "A server connection that is older is closed when nobody uses it.",
            LIVE,
            unit="duration",
            least=0,
            why=_FOREVER,
        ),
    ] = 3_600_000
    user_servers: Annotated[
        int,
        Key(
            "Most server connections of any one user, of all its pools; 0: no limit.", LIVE, least=0
        ),
    ] = 0
    database_servers: Annotated[
        int,
        Key("Most to any one database, of all its pools; 0: no limit.", LIVE, least=0),
    ] = 0
    users: Annotated[
        Mapping[Name, UserPools],
        Key("What is otherwise for users by name; it counts before what databases say.", LIVE),
    ] = {}
    databases: Annotated[
        Mapping[Name, DatabasePools],
        Key(
            "What is otherwise for databases by the name that clients give them. dbname and"
            " settings count for listeners with pool: session too.",
            LIVE,
        ),
    ] = {}
    ignore_startup_parameters: Annotated[
        tuple[Ignored, ...],
        Key(
            "Startup parameters of clients that are not passed on, as [extra_float_digits]; of"
            " listeners with pool: session too.",
            LIVE,
        ),
    ] = ()
    admins: Annotated[
        tuple[Name, ...],
        Key(
            "Users who may connect to the database pgherd of listeners with pool: transaction, and"
            " PAUSE, RESUME and RECONNECT there.",
            LIVE,
        ),
    ] = ()
    viewers: Annotated[
        tuple[Name, ...], Key("Users who may connect to it and SHOW, nothing else.", LIVE)
    ] = ()


def problems(pools: Pools, *, lends: bool) -> Iterator[tuple[Path, str, str]]:
    """What contradicts itself, or does nothing. lends: a listener has pool: transaction."""
    above: Path = ("proxy", "pools")
    yield from _least(above, pools, pools, (pools.user_servers, pools.database_servers))
    kinds: tuple[tuple[str, Mapping[str, UserPools], int], ...] = (
        ("users", pools.users, pools.user_servers),
        ("databases", pools.databases, pools.database_servers),
    )
    for kind, named, most in kinds:
        for name, own in named.items():
            servers = most if own.servers is None else own.servers
            yield from _least((*above, kind, name), own, pools, (servers,))
    for name, database in pools.databases.items():
        yield from _database((*above, "databases", name), name, database, pools)
    for index, name in enumerate(pools.viewers):
        if name in pools.admins:
            hint = "remove it from viewers"
            yield (*above, "viewers", index), f"{name} is one of admins, who may SHOW too", hint
    for key, names in (("admins", pools.admins), ("viewers", pools.viewers)):
        if names and not lends:
            text = "has no effect: no listener has pool: transaction"
            yield (*above, key), text, "give one of proxy.listeners pool: transaction, or remove it"


def _database(
    path: Path, name: str, database: DatabasePools, pools: Pools
) -> Iterator[tuple[Path, str, str]]:
    if name == ADMIN_DATABASE:
        hint = f"give it another name here, with dbname: {database.dbname or name}"
        yield path, f"{name} is the database in which pools are seen and stopped", hint
    for one in database.settings:
        if one in pools.ignore_startup_parameters:
            yield (
                (*path, "settings", one),
                "is one of ignore_startup_parameters, so that no client could choose another value",
                "remove it there or here",
            )


def _least(
    path: Path, own: Pools | UserPools, pools: Pools, servers: tuple[int, ...]
) -> Iterator[tuple[Path, str, str]]:
    """min_size is of the servers that there may be. servers: limits of others, 0 = none."""
    least = pools.min_size if own.min_size is None else own.min_size
    size = pools.size if own.size is None else own.size
    most = min(size, *(one for one in servers if one)) if any(servers) else size
    said = [
        name for name in ("min_size", "size", "servers") if getattr(own, name, None) is not None
    ]
    if said and least > most:
        text = f"keeps {least} servers open where there may be {most}"
        yield (*path, said[0]), text, f"write min_size: {most} or less, or larger limits"
