"""How much sessions were answered whose protocol ends here: of all that were, and that are.

Owns the sums, also of who is where now. What is an answer is `wire.tracker`'s: one ReadyForQuery,
so that a batch of an extended query counts once. Sessions whose bytes only pass are not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgherd.relay.session import Session
    from pgherd.relay.terminated import Terminated
    from pgherd.route.choose import Bound

SIMPLE, EXTENDED = "simple", "extended"


def note(queries: dict[str, Counter[str]], session: Terminated) -> None:
    """Add what a session was answered."""
    if session.tracker is None:
        return
    simple, extended = session.answered
    found = queries.setdefault(str(session.listener.route), Counter())
    found[SIMPLE] += simple
    found[EXTENDED] += extended


def total(
    ended: Mapping[str, Counter[str]], sessions: Iterable[Terminated]
) -> dict[str, dict[str, int]]:
    """Route -> kind -> how many: those of sessions that ended, and of these."""
    found = {route: Counter(counts) for route, counts in ended.items()}
    for session in sessions:
        note(found, session)
    return {route: dict(counts) for route, counts in found.items()}


def open_now(sessions: Iterable[tuple[Session, Bound | None]]) -> dict[str, dict[str, int]]:
    """Listener -> server -> how many have a server there."""
    found: dict[str, Counter[str]] = {}
    for session, bound in sessions:
        if bound is not None and not session.closing:
            found.setdefault(session.listener.label, Counter())[bound.backend.name] += 1
    return {label: dict(counts) for label, counts in found.items()}
