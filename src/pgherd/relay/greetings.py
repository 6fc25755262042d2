"""What clients of pools are told at their login, as servers have reported it.

Owns what is remembered and for how long; `greeting` asks a server for what is not known here.
"""

from __future__ import annotations

from pgherd.relay.lent import Family
from pgherd.wire.shared import NAME, granted, is_plain

Kind = tuple[Family, bool]
"""Whose sessions, and whether at the primary."""

Wishes = frozenset[tuple[str, str]]

FAMILIES_MAX = 1000
WISHES_MAX = 100
"""Greetings that are kept of one family."""


class Greetings:
    """What clients of a family are told, by their wishes."""

    def __init__(self) -> None:
        self._known: dict[Kind, dict[Wishes, dict[str, str]]] = {}

    def get(self, kind: Kind, wished: dict[str, str]) -> dict[str, str] | None:
        """What a client is told; None: ask a server."""
        known = self._known.get(kind, {}).get(_key(wished))
        return None if known is None else granted(known, wished)

    def learn(self, kind: Kind, wished: dict[str, str], settings: dict[str, str]) -> None:
        """Remember what a server reported."""
        if len(self._known) >= FAMILIES_MAX:
            self._known.clear()
        known = self._known.setdefault(kind, {})
        if len(known) >= WISHES_MAX:
            known.clear()
        known[_key(wished)] = settings

    def opened(self, kind: Kind, settings: dict[str, str]) -> None:
        """A server of theirs was opened and reports this."""
        known = self._known.get(kind)
        if known is not None and known.get(_BASE) != settings:
            known.clear()
        self.learn(kind, {}, settings)


_BASE: Wishes = frozenset()


def _key(wished: dict[str, str]) -> Wishes:
    name = wished.get(NAME)
    is_left_out = name is None or is_plain(name)
    return frozenset(pair for pair in wished.items() if pair[0] != NAME or not is_left_out)
