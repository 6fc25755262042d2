"""How far a replica has to be for a client to see what it wrote (read-your-writes).

A mark is a position in the WAL of one term. It says nothing of another term's WAL: positions of two
histories cannot be compared. See docs/adr/0066-read-your-writes.md. Pure.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from pgherd.model.ids import Lsn, Term, format_lsn, parse_lsn

_TOKEN = re.compile(r"(\d{1,18}):([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


class ReadYourWrites(StrEnum):
    """Whose writes a read is sure to see. SESSION: its session's own · TOKEN: those that the client
    names with `pgherd.min_lsn`.
    """

    OFF = "off"
    SESSION = "session"
    TOKEN = "token"


class Mark(msgspec.Struct, frozen=True, order=True):
    """Of term, and position in it: what was acknowledged before lies behind neither."""

    term: Term
    lsn: Lsn

    def __str__(self) -> str:
        """The token that a client gets."""
        return f"{self.term}:{format_lsn(self.lsn)}"


def parse_mark(token: str) -> Mark | None:
    """A client's token; None for what is none."""
    match = _TOKEN.fullmatch(token.strip())
    if match is None:
        return None
    return Mark(Term(int(match[1])), parse_lsn(f"{match[2]}/{match[3]}"))
