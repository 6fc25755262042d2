"""What sessions need to have in common to share servers: the startup parameters that tell it.

A server that reports a parameter to its clients can be made to have any value of it, so these are
left out when a server is started, and each client gets its own. All others belong to the server:
sessions that ask for other ones have other servers, and RESET leads where it would without a pool.
A session that speaks the replication protocol has its server to itself.

Pure. Leaves how a server is made to have a value to `renewal`.
"""

from __future__ import annotations

from collections.abc import Mapping

Parameters = tuple[tuple[str, str], ...]

REPORTED = {
    "client_encoding": "client_encoding",
    "datestyle": "DateStyle",
    "intervalstyle": "IntervalStyle",
    "timezone": "TimeZone",
    "application_name": "application_name",
}
"""Parameters that every PostgreSQL reports, by their names in small letters."""

NAME = "application_name"
_NAME_BYTES_MAX = 63


def is_poolable(parameters: Parameters) -> bool:
    """Whether the session can do with a server now and then."""
    return dict(parameters).get("replication", "off").lower() in ("off", "no", "false", "0", "n")


def common(parameters: Parameters) -> Parameters:
    """What a server is started with, in an order of its own."""
    found = dict(parameters)
    found.setdefault("database", found.get("user", ""))
    found.pop("replication", None)
    return tuple(sorted(pair for pair in found.items() if pair[0].lower() not in REPORTED))


def wishes(parameters: Parameters) -> dict[str, str]:
    """What the client asked for besides, by the names that servers report."""
    return {REPORTED[name.lower()]: value for name, value in parameters if name.lower() in REPORTED}


def is_plain(name: str) -> bool:
    """Whether PostgreSQL would take an application's name as it is."""
    return len(name) <= _NAME_BYTES_MAX and name.isascii() and name.isprintable()


def granted(settings: Mapping[str, str], wished: Mapping[str, str]) -> dict[str, str]:
    """What a client of these wishes is told, where `settings` has all of them but its name."""
    name = wished.get(NAME)
    return dict(settings) if name is None else {**settings, NAME: name}
