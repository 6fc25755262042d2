"""synchronous_standby_names as the PostgreSQL model reads it.

Owns the parsed value and what it matches. `term` and `generation` ride along for the checks only.
"""

from __future__ import annotations

import re

from pgherd.model.ids import CLOSED_NAMES, MemberKey, Term, parse_token

QUORUM = re.compile(r"ANY (\d+) \((.*)\)")
QUOTED = re.compile(r'"([^"]*)"')

NO_TERM = Term(0)
Token = tuple[MemberKey, Term]


class Names:
    """One value of the setting. tokens: whom it matches · k: how many must confirm."""

    __slots__ = ("generation", "k", "term", "text", "tokens")

    def __init__(self, text: str, *, term: Term = NO_TERM, generation: int = 0) -> None:
        self.text = text
        self.term = term
        self.generation = generation
        match = QUORUM.fullmatch(text)
        listed = QUOTED.findall(match[2]) if match else QUOTED.findall(text)
        tokens = [parse_token(name) for name in listed]
        self.tokens: tuple[Token, ...] = tuple(token for token in tokens if token is not None)
        self.k = int(match[1]) if match else len(listed)

    @property
    def empty(self) -> bool:
        """Nobody waits for anybody."""
        return self.text == ""

    @property
    def closed(self) -> bool:
        """Everybody waits for nobody."""
        return not self.empty and not self.tokens


CLOSED = Names(CLOSED_NAMES)
