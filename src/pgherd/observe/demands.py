"""What a standby that has stopped replaying needs more of, by its own pg_control.

PostgreSQL writes into pg_control what its WAL demands before it pauses for want of it (hot standby,
administrator's overview). Asked only while replay is paused, and once for each place where it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.model.errors import PostgresError
from pgherd.model.pgconfig import MATCHED, Running
from pgherd.postgres import pgcontrol

if TYPE_CHECKING:
    from pgherd.postgres.look import Look
    from pgherd.postgres.server import PostgresServer


class Demands:
    """Of one server."""

    def __init__(self) -> None:
        self._place: object = None
        self._demanded: Running = ()

    async def of(self, look: Look, server: PostgresServer) -> Running:
        """What is demanded of `pgconfig.MATCHED`; empty while it replays, or nobody can say."""
        if not (look.in_recovery and look.paused):
            return ()
        place = server.pid, look.position
        if place != self._place:
            bin_dir, data_dir = server.binaries.bin_dir, server.data_dir
            try:
                control = await pgcontrol.read(bin_dir, data_dir, user=server.user)
            except PostgresError:
                return ()
            self._place = place
            self._demanded = tuple(control.demanded[name] for name in MATCHED)
        return self._demanded
