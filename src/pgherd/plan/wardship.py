"""Whether this node's server acknowledges commits alone, so that an instant must bound it. Pure.

Only then does the end of a lease stop writes (PROTOCOL.md 8): with synchronous standbys every
acknowledgement needs theirs, under closed names there is none.
"""

from __future__ import annotations

from pgherd.model import action as act
from pgherd.model.observation import Server, ServerSeen

RUNS = (Server.PRIMARY, Server.HUNG)
CLOSING = (act.CloseGate, act.HoldWrites, act.DrainAndStop)


def is_closing(server: ServerSeen, doing: act.Action | None) -> bool:
    """Whether closed names may not count yet: PostgreSQL's checkpointer has to see them first.

    Until that is proven a deadline that is kept stays.
    """
    return server.state in RUNS and isinstance(doing, CLOSING)


def writes_alone(server: ServerSeen, planned: act.Action | None) -> bool:
    """Whether a server acknowledges alone now, or will once it has done what is planned.

    One that hangs may go on with the sessions that it has.
    """
    if server.state not in RUNS:
        return False
    opens = isinstance(planned, act.SetNames) and not planned.names
    return opens or not server.names
