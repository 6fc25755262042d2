"""What a client can ask the proxy itself for, in statements that no server sees.

    SET pgherd.route = primary | replica | auto     RESET pgherd.route     SHOW pgherd.route
    SET pgherd.trace = on | off
    SET pgherd.min_lsn = 'TERM:LSN'                 SHOW pgherd.lsn_token

Pure. Owns the words and their form; what comes of them is `steering`'s.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

MENTION = b"pgherd."

_WORDS = re.compile(
    rb"""\s*(?P<verb>set|show|reset)\s+(?P<scope>(?:session|local)\s+)?pgherd\.(?P<name>\w+)
         (?:\s*(?:=|\bto\b)\s*(?:'(?P<quoted>[^'\\]*)'|(?P<bare>[\w.:/]+)))?\s*;?\s*""",
    re.IGNORECASE | re.VERBOSE,
)


class Wish(msgspec.Struct, frozen=True):
    """One such statement. name: without `pgherd.` · value: "" for RESET and DEFAULT."""

    verb: Literal["set", "show"]
    name: str
    value: str = ""
    is_local: bool = False


def wish_in(text: bytes) -> Wish | None:
    """The wish that a text is; None for all other texts."""
    if MENTION not in text.lower():
        return None
    match = _WORDS.fullmatch(text)
    if match is None:
        return None
    verb, name = match["verb"].lower(), match["name"].decode().lower()
    given = match["quoted"] if match["quoted"] is not None else match["bare"]
    if (verb == b"set") != (given is not None) or (verb != b"set" and match["scope"]):
        return None
    if verb == b"show":
        return Wish("show", name)
    value = (given or b"").decode("utf-8", "replace").strip()
    if match["bare"] is not None and value.lower() == "default":
        value = ""
    is_local = (match["scope"] or b"").strip().lower() == b"local"
    return Wish("set", name, value, is_local)
