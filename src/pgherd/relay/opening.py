"""Open one more server for a pool: connect to the place that it leads to, and log in there.

Owns the order, and what a failure means for those that wait. Leaves the exchange to `entrance`,
which logs in for sessions in the same way, and when a server is opened to `pools`.
"""

from __future__ import annotations

import asyncio

from pgherd.relay.dial import Dialled, attempt
from pgherd.relay.entrance import (
    ENTRY_S_MIN,
    Gate,
    Refused,
    RefusedByServer,
    log_in_at,
    loud,
)
from pgherd.relay.lent import PoolServer
from pgherd.relay.logging_in import Entered
from pgherd.relay.messages import ListenerSettings
from pgherd.route.choose import Bound, NoBackend, Route
from pgherd.wire.answer import Refusal
from pgherd.wire.guard import TooQuiet
from pgherd.wire.login import Authenticated
from pgherd.wire.query import HEADER_BYTES, error_of
from pgherd.wire.renewal import Renewal

_NOBODYS = ListenerSettings("", 0, Route.PRIMARY)


class NotOpened:
    """Why there is no server. refusal: what no other try would change."""

    def __init__(self, why: str, refusal: Refusal | None = None) -> None:
        self.why = why
        self.refusal = refusal


class Opener:
    """Who dials and logs in, in place of a session."""

    def __init__(self, gate: Gate, *, by_socket: bool) -> None:
        self.listener = _NOBODYS
        self.by_socket = by_socket
        self.server = PoolServer(gate.totals)
        self._gate = gate

    def server_side(self) -> PoolServer:
        """What listens to the server."""
        return self.server

    def renewal(self) -> None:
        """It begins as the server lets it begin."""
        return

    def joined(self, bound: Bound, entered: Entered) -> None:
        """The login is over."""
        told = Renewal({}, ())
        told.feed(entered.entry.greeting)
        self.server.key = entered.entry.key
        self.server.settings = self.server.base = told.settings
        self._gate.count(bound.backend, -1)  # it counts while somebody has it


async def opened(
    gate: Gate, opener: Opener, bound: Bound, proved: Authenticated
) -> PoolServer | NotOpened:
    """One more server, or why there is none."""
    limit_s = gate.settings.attempt_ms / 1000
    try:
        return await _opened(gate, opener, bound, proved, limit_s)
    except TooQuiet:
        again = Opener(gate, by_socket=opener.by_socket)
    try:
        return await _opened(gate, again, bound, loud(proved), limit_s)
    except TooQuiet:
        return NotOpened(f"{bound.backend.name} lets nobody hear its warnings")


async def _opened(
    gate: Gate, opener: Opener, bound: Bound, proved: Authenticated, limit_s: float
) -> PoolServer | NotOpened:
    """Raises TooQuiet."""
    found = await attempt(gate, opener, bound=bound, left_s=limit_s)
    if not isinstance(found, Dialled):
        return NotOpened(found.message if found is not None else "it leads no more")
    deadline_s = asyncio.get_running_loop().time() + limit_s + ENTRY_S_MIN
    try:
        outcome = await log_in_at(gate, proved, opener, found, deadline_s)
    except Refused as why:
        return NotOpened(str(why), why.refusal)
    except RefusedByServer as why:
        error = error_of(why.said[HEADER_BYTES:])
        return NotOpened(str(error), Refusal(error.sqlstate, str(error)))
    if isinstance(outcome, NoBackend):
        return NotOpened(outcome.message)
    if outcome is None or opener.server.transport is None:
        return NotOpened("it left")
    return opener.server
