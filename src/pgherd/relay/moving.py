"""Move a session to another server, so that its client does not notice.

Theory of operation. A session may be moved while nothing of it is under way, and its old server
process kept nothing that a new one cannot be given (`wire.tracker`). It leaves its server, and what
its client says is kept. Then a server is chosen as for a newcomer, within `connect_timeout`; the
session logs in with what its client proved when it came, is made what it was (`wire.renewal`), and
what was kept goes to the new server, which is the first to see any of it. Where that does not come
about the client gets 57P01: nothing that it said since has reached a server.

A session that an administrator ended (pg_terminate_backend) is not moved: its server said farewell,
and the next login finds the same server in the same reign.
"""

from __future__ import annotations

import asyncio

from pgherd.relay.dial import HINT_REFUSED
from pgherd.relay.entrance import Gate, Refused, RefusedByServer, enter
from pgherd.relay.logging_in import Entered
from pgherd.relay.session import CUT_LINGER_S, LINGER_S
from pgherd.relay.terminated import Terminated
from pgherd.route.choose import Bound
from pgherd.wire.answer import ADMIN_SHUTDOWN, Refusal
from pgherd.wire.login import Authenticated
from pgherd.wire.renewal import Renewal


class Mover:
    """How a moved session gets in. left: where it was · farewell: what it was told there."""

    def __init__(self, gate: Gate, session: Terminated, left: Bound, farewell: bytes) -> None:
        assert session.tracker is not None
        self._gate = gate
        self._session = session
        self._left = left
        self._farewell = farewell
        self._tracker = session.tracker
        self._loop = asyncio.get_running_loop()
        self._began_s = gate.hold.began_s if session.held else self._loop.time()

    def renewal(self) -> Renewal:
        """What the new server process is to be given."""
        return Renewal(self._tracker.settings, self._tracker.statements)

    def joined(self, bound: Bound, entered: Entered) -> None:
        """The login is over. Raises RefusedByServer for a session that was ended on purpose."""
        session, renewal = self._session, entered.renewal
        assert renewal is not None
        is_same = (bound.backend.name, bound.term) == (self._left.backend.name, self._left.term)
        if self._farewell and is_same:
            raise RefusedByServer(self._farewell)
        session.key, session.bound = entered.entry.key, bound
        self._gate.tally.moved += 1
        if session.kept:
            self._gate.tally.waited(self._loop.time() - self._began_s)
        session.rejoin(entered.transport, renewal.settings, news=renewal.news())


def begin(gate: Gate, session: Terminated, farewell: bytes = b"") -> None:
    """Let a session leave its server and look for another."""
    left, proved = session.bound, session.proved
    assert left is not None
    assert proved is not None
    session.bound = session.key = None
    session.leave_server()
    gate.count(left.backend, -1)
    mover = Mover(gate, session, left, farewell)
    session.task = asyncio.get_running_loop().create_task(_move(gate, session, proved, mover))


async def _move(gate: Gate, session: Terminated, proved: Authenticated, mover: Mover) -> None:
    try:
        await enter(gate, session, proved, mover)
    except Refused as why:
        text = f"{why.refusal.message}; nothing was sent to a server since"
        hint = why.refusal.hint or HINT_REFUSED
        session.refuse(Refusal(ADMIN_SHUTDOWN, text, hint))
    except RefusedByServer as why:
        session.say(why.said)
        session.close(linger_s=CUT_LINGER_S, flush_s=LINGER_S)
