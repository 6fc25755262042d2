"""What people say to the database `pgherd`: SHOW, and orders to the pools. Pure.

Owns the words and how they are read; each is one statement, in any case, with or without a
semicolon, and names are quoted as in SQL. Leaves carrying them out to `relay`.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from pgherd.wire.answer import Refusal

_SYNTAX_ERROR = "42601"
_HINT = "SHOW HELP lists what can be said."


class View(StrEnum):
    """What SHOW shows."""

    POOLS = "pools"
    CLIENTS = "clients"
    SERVERS = "servers"
    DATABASES = "databases"
    STATS = "stats"
    LISTS = "lists"
    CONFIG = "config"
    VERSION = "version"
    HELP = "help"


class Verb(StrEnum):
    """What can be done to the pools."""

    PAUSE = "pause"
    RESUME = "resume"
    RECONNECT = "reconnect"


class Show(msgspec.Struct, frozen=True, tag=True):
    """Tell of something."""

    view: View


class Act(msgspec.Struct, frozen=True, tag=True):
    """Do something to the pools of one database, by the name that clients give it; "": of all."""

    verb: Verb
    database: str = ""


class Nothing(msgspec.Struct, frozen=True, tag=True):
    """An empty statement."""


Order = Show | Act | Nothing

MEANINGS: dict[str, str] = {
    "SHOW POOLS": "clients and server connections of each user at each database",
    "SHOW CLIENTS": "every client, and which server connection it has",
    "SHOW SERVERS": "every server connection, and which client has it",
    "SHOW DATABASES": "databases by the names of clients, their limits, and which are paused",
    "SHOW STATS": "what was done for each database since this proxy started",
    "SHOW LISTS": "how many there are of everything",
    "SHOW CONFIG": "the limits in force (proxy.pools of this node's file)",
    "SHOW VERSION": "the version of pgherd",
    "SHOW HELP": "this list",
    "PAUSE [db]": "lend no server connection, and end them all as they come back; returns then",
    "RESUME [db]": "end the pause",
    "RECONNECT [db]": "replace every server connection, at once or when it comes back",
}
"""What can be said, and what it does."""

_WORDS = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^\s;"]+))')
_ASIDE = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def read(statement: str) -> Order | Refusal:
    """What a statement asks for, or why it cannot be read."""
    rest = _ASIDE.sub(" ", statement).strip()
    rest = rest.removesuffix(";").rstrip()
    if not rest:
        return Nothing()
    words = _split(rest)
    if words is None:
        return _unclear(f'cannot read "{rest}"')
    verb, *objects = words
    if verb.lower() == "help" and not objects:
        return Show(View.HELP)
    if verb.lower() == "show":
        return _show(objects)
    if verb.lower() in tuple(Verb):
        if len(objects) > 1:
            return _unclear(f"{verb.upper()} takes one database or none")
        return Act(Verb(verb.lower()), *objects)
    return _unclear(f"{verb.upper()} is not known here: this is no PostgreSQL server")


def _show(objects: list[str]) -> Order | Refusal:
    if len(objects) != 1:
        return _unclear("SHOW takes one word")
    if objects[0].lower() not in tuple(View):
        return _unclear(f"there is no SHOW {objects[0].upper()}")
    return Show(View(objects[0].lower()))


def _split(text: str) -> list[str] | None:
    """The words of one statement; None for more than one, or an open quote."""
    found, at = [], 0
    while at < len(text):
        word = _WORDS.match(text, at)
        if word is None:
            return None
        found.append(word[2] or word[1].replace('""', '"'))
        at = word.end()
    return found


def _unclear(message: str) -> Refusal:
    return Refusal(_SYNTAX_ERROR, f"pgherd: {message}", _HINT)
