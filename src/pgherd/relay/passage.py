"""Where a client goes that has proved itself: to a server of its own, a pool, or to `pgherd`.

Owns that choice, and what servers are told in place of what the client said: another name of its
database, parameters that its sessions begin with, and nothing of what the operator ignores. Limits
and pools know it by its own words.
"""

from __future__ import annotations

import msgspec

from pgherd.relay.entrance import Gate, Newcomer, enter
from pgherd.relay.messages import Pool
from pgherd.relay.terminated import Terminated
from pgherd.route.poolrules import ADMIN_DATABASE, database_of
from pgherd.wire.login import Authenticated
from pgherd.wire.shared import is_poolable


async def let_in(gate: Gate, session: Terminated, proved: Authenticated) -> None:
    """Lead it there. Raises Refused and RefusedByServer."""
    database = database_of(proved.startup.parameters)
    lends = session.listener.pool is Pool.TRANSACTION
    if lends and database == ADMIN_DATABASE:
        from pgherd.relay.admin import administer  # few come to look
        from pgherd.relay.pooled import Pooled

        assert isinstance(session, Pooled)
        await administer(gate, session, proved)
        return
    proved = _as_servers_know(gate, proved)
    if lends and is_poolable(proved.startup.parameters):
        from pgherd.relay.greeting import greet  # a proxy without pools stays lean

        await greet(gate, session, proved, database=database)
    else:
        await enter(gate, session, proved, Newcomer(gate, session, proved))


def _as_servers_know(gate: Gate, proved: Authenticated) -> Authenticated:
    """What a client proved, with what a server is to be told."""
    parameters = gate.settings.pools.at_startup(proved.startup.parameters)
    startup = msgspec.structs.replace(proved.startup, parameters=parameters)
    return msgspec.structs.replace(proved, startup=startup)
