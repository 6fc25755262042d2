"""What the operator says of pools, and what of it counts for one user at one database. Pure.

Owns names, limits and what sessions begin with: a client's name of a database may be another than
the server's, its sessions may begin with parameters, and some of what clients send at their startup
is not passed on. Also the places for server connections that pools of one user or one database
share. Leaves when a server is opened to `pooling`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pgherd.route.entry import Key, Kind, Places
from pgherd.route.poolsteps import PoolLimits
from pgherd.wire.lowering import options

Parameters = tuple[tuple[str, str], ...]

ADMIN_DATABASE = "pgherd"
"""What clients connect to who want to see and stop the pools, not a server."""


class Sizes(msgspec.Struct, frozen=True):
    """What is otherwise for one user or database; None: nothing. servers: of all its pools."""

    size: int | None = None
    min_size: int | None = None
    reserve: int | None = None
    queue: int | None = None
    wait_ms: int | None = None
    idle_ms: int | None = None
    lifetime_ms: int | None = None
    servers: int | None = None


class Database(msgspec.Struct, frozen=True):
    """A database by the name that clients give it. dbname: the server's name, "" = the same ·
    settings: parameters that sessions begin with.
    """

    sizes: Sizes = Sizes()
    dbname: str = ""
    settings: dict[str, str] = {}


class PoolRules(msgspec.Struct, frozen=True):
    """All of it. user_servers, database_servers: most of all pools of one; 0 = no limit · ignored:
    startup parameters that are not passed on · admins, viewers: who may see the pools, and stop
    them.
    """

    limits: PoolLimits = PoolLimits()
    users: dict[str, Sizes] = {}
    databases: dict[str, Database] = {}
    user_servers: int = 0
    database_servers: int = 0
    ignored: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()
    viewers: tuple[str, ...] = ()

    def limits_of(self, user: str, database: str) -> PoolLimits:
        """What holds for a pool. database: as clients call it."""
        found = self.limits
        for own in (self.databases.get(database, _SAME).sizes, self.users.get(user, _NONE)):
            own_values = msgspec.structs.asdict(own)
            own_values.pop("servers")
            said = {name: value for name, value in own_values.items() if value is not None}
            found = msgspec.structs.replace(found, **said) if said else found
        if found.min_size > found.size:
            found = msgspec.structs.replace(found, min_size=found.size)
        return found

    def dbname_of(self, database: str) -> str:
        """What the server calls a database."""
        return self.databases.get(database, _SAME).dbname or database

    def at_startup(self, parameters: Parameters) -> Parameters:
        """What a server is told at the start of a session, of what a client said.

        A client that names a parameter itself is heard before the database's own settings.
        """
        rule = self.databases.get(database_of(parameters), _SAME)
        known = dict(parameters)
        said = {name.lower() for name in known} | options(known.get("options", "")).keys()
        passed = tuple(
            (name, rule.dbname if name == "database" and rule.dbname else value)
            for name, value in parameters
            if name.lower() not in self.ignored
        )
        if rule.dbname and "database" not in known:
            passed += (("database", rule.dbname),)
        return passed + tuple(one for one in rule.settings.items() if one[0] not in said)

    def servers_of(self, user: str, database: str) -> dict[Key, int]:
        """What a server connection counts for, with the most there may be; 0 = no limit."""
        own = self.users.get(user, _NONE).servers
        return {
            (Kind.USER, user): self.user_servers if own is None else own,
            (Kind.DATABASE, database): self.most_of(database),
        }

    def most_of(self, database: str) -> int:
        """Most server connections to one database; 0 = no limit."""
        own = self.databases.get(database, _SAME).sizes.servers
        return self.database_servers if own is None else own


def database_of(parameters: Parameters) -> str:
    """What a client calls its database; one that is not said has its user's name."""
    known = dict(parameters)
    return known.get("database") or known.get("user", "")


class Share:
    """The room (`poolsteps.Room`) of one pool: places that it shares with others."""

    def __init__(self, places: Places, wanted: Mapping[Key, int]) -> None:
        self._places = places
        self._keys = tuple(wanted)
        self.wanted = wanted

    def take(self) -> bool:
        """Take one more place of each kind, if there is one."""
        return self._places.take(self.wanted) is None

    def give(self) -> None:
        """Give one back."""
        self._places.leave(self._keys)

    def lacking(self) -> frozenset[Key]:
        """Of what there is no place left."""
        return self._places.without_room(self.wanted)


_SAME = Database()
_NONE = Sizes()
