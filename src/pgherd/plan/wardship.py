"""Whether this node's server acknowledges commits alone, so that an instant must bound it. Pure.

Only then does the end of a lease stop writes (PROTOCOL.md 8): with synchronous standbys every
acknowledgement needs theirs, under closed names there is none.
"""

from __future__ import annotations

from pgherd.model import action as act
from pgherd.model.observation import Server, ServerSeen


def writes_alone(server: ServerSeen, planned: act.Action | None) -> bool:
    """Whether a server acknowledges alone now, or will once it has done what is planned.

    One that hangs may go on with the sessions that it has.
    """
    if server.state not in (Server.PRIMARY, Server.HUNG):
        return False
    opens = isinstance(planned, act.SetNames) and not planned.names
    return opens or not server.names
