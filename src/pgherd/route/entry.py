"""Who may come in, and how many: the operator's limits on sessions.

Pure. Owns the networks of `proxy.allow` and the counts behind `proxy.limits`; what a client is
told is said here, when and how is `relay`'s. Counts are one proxy's own: a cluster of three nodes
lets in three times as many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from pgherd.wire.answer import TOO_MANY_CONNECTIONS, Refusal

_MAPPED = bytes(10) + b"\xff\xff"
"""What an IPv4 address begins with as an IPv6 one (RFC 4291, 2.5.5.2)."""


class Network(msgspec.Struct, frozen=True):
    """All addresses whose first `bits` bits are those of `address` (4 or 16 bytes)."""

    address: bytes
    bits: int

    def holds(self, packed: bytes) -> bool:
        """Whether an address belongs to it."""
        if len(packed) != len(self.address):
            return False
        rest = len(packed) * 8 - self.bits
        return int.from_bytes(packed, "big") >> rest == int.from_bytes(self.address, "big") >> rest


def may_come(address: bytes, allow: Iterable[Network]) -> bool:
    """Whether a client of this address (4 or 16 bytes) is let in. No network at all lets all in."""
    networks = tuple(allow)
    return not networks or holds_any(address, networks)


def holds_any(address: bytes, networks: Iterable[Network]) -> bool:
    """Whether an address (4 or 16 bytes) belongs to one of the networks."""
    if len(address) == 16:
        address = address.removeprefix(_MAPPED)
    return any(network.holds(address) for network in networks)


class Limits(msgspec.Struct, frozen=True):
    """Most sessions at a time of any one user, database or client address, and of some by name;
    0 = no limit."""

    user: int = 0
    database: int = 0
    address: int = 0
    users: dict[str, int] = {}
    databases: dict[str, int] = {}


class Kind(StrEnum):
    """What sessions are counted by."""

    LISTENER = "listener"
    ADDRESS = "address"
    USER = "user"
    DATABASE = "database"


Key = tuple[Kind, str]
"""A kind and a name."""


class Full(msgspec.Struct, frozen=True):
    """There is no place for one more. kind: which limit it is."""

    kind: Kind
    refusal: Refusal


class Places:
    """The places that sessions of one proxy take, by key. One without a limit costs none."""

    def __init__(self) -> None:
        self._taken: Counter[Key] = Counter()

    def take(self, wanted: Mapping[Key, int]) -> Full | None:
        """Take one place of each key, with its limit; or none at all, and say what is full."""
        for key, limit in wanted.items():
            if limit and self._taken[key] >= limit:
                kind, name = key
                text = f'pgherd: {kind} "{name}" has {self._taken[key]} sessions open already'
                hint = "The limit is one of proxy.limits of this node."
                return Full(kind, Refusal(TOO_MANY_CONNECTIONS, text, hint))
        self._taken.update(wanted.keys())
        return None

    def without_room(self, wanted: Mapping[Key, int]) -> frozenset[Key]:
        """Of which keys all places are taken, with these limits."""
        return frozenset(key for key, most in wanted.items() if most and self._taken[key] >= most)

    def leave(self, keys: Iterable[Key]) -> None:
        """Give places back."""
        for key in keys:
            self._taken[key] -= 1
            if self._taken[key] <= 0:
                del self._taken[key]


def named(parameters: Iterable[tuple[str, str]], limits: Limits) -> dict[Key, int]:
    """What a session of these startup parameters counts for, with the limits of now.

    A database that is not said has its user's name (protocol-message-formats, StartupMessage).
    """
    known = dict(parameters)
    user = known.get("user", "")
    database = known.get("database") or user
    return {
        (Kind.USER, user): limits.users.get(user, limits.user),
        (Kind.DATABASE, database): limits.databases.get(database, limits.database),
    }
