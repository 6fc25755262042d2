"""Lead sessions away from a replica whose node is in maintenance.

Theory of operation. While the snapshot says that a node is tended it gets no new session, and once
a second its open ones are looked at. Those that can move (`moving`) go to another replica as soon
as they are idle, MOVES_AT_ONCE in a look. What is left `drain_timeout` after this proxy heard of
the maintenance leaves: what can move goes wherever a new session would, the rest is told 57P01, or
08007 where a statement runs. A session whose replica became the primary meanwhile is none of these.

Owns when a session has to go. Leaves how to `hold`, `moving` and `session`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pgherd.model.ids import NodeId
from pgherd.relay.journal import say
from pgherd.relay.session import Session
from pgherd.route.choose import Bound, Snapshot

if TYPE_CHECKING:
    from pgherd.relay.entrance import Gate

MOVES_AT_ONCE = 50
"""Each is a login at another server."""

DRAINED = "drained"
"""How sessions that were ended are counted."""

_HINT = "Connect again: the new session reaches another server."


class Tended:
    """When this process heard of which maintenance."""

    def __init__(self) -> None:
        self._since_s: dict[NodeId, float] = {}

    def look(self, gate: Gate, sessions: Iterable[Session], *, now_s: float) -> None:
        """Move and end what has to go. To be called once a second, by the loop's clock."""
        since = self._since_s
        if not self._hear(gate.snapshot, now_s):
            return
        moved = cut = 0
        for session in list(sessions):
            bound = session.bound
            if bound is None or bound.to_primary or session.closing:
                continue
            node = bound.backend.name
            if node not in self._since_s:
                continue
            is_late = now_s - self._since_s[node] >= gate.settings.drain_ms / 1000
            if (is_late or moved < MOVES_AT_ONCE) and _moves(gate, session, anywhere=is_late):
                moved += 1
            elif is_late:
                session.cut(f"pgherd: {node} is in maintenance", _HINT)
                gate.note_error(DRAINED)
                cut += 1
        if moved or cut or since.keys() != self._since_s.keys():
            say("node.tended", nodes=",".join(self._since_s), moved=moved, cut=cut)

    def _hear(self, snapshot: Snapshot | None, now_s: float) -> bool:
        """Note which nodes are tended; whether there are any."""
        backends = snapshot.replicas if snapshot is not None else ()
        names = [one.name for one in backends if one.tended]
        self._since_s = {name: self._since_s.get(name, now_s) for name in names}
        return bool(names)


def _moves(gate: Gate, session: Session, *, anywhere: bool) -> bool:
    """Let a session go elsewhere, if it can and there is somewhere: to the primary only late."""
    if not session.ends_here or not session.is_idle:
        return False
    choice = gate.choose(session.listener, ())
    if not isinstance(choice, Bound) or (choice.to_primary and not anywhere):
        return False
    return gate.hold.adrift(session)
