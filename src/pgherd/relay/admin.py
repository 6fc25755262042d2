"""The database `pgherd`: where people look at the pools of this proxy, and stop them.

Theory of operation. It is no server: whoever connects to it through a listener with
`pool: transaction` proves itself like everybody, and is let in if the operator names it. Statements
of the simple protocol are answered one by one, as long as the session lasts; rights are looked up
at each. A PAUSE answers when the last server has ended, and stays in force if its client cancels it
or leaves. See docs/adr/0064-pools-seen-and-stopped.md.

Owns the exchange. Leaves the words to `route.orders`, what is shown to `poolview`, and what is done
to `pausing`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgherd import __version__
from pgherd.relay.entrance import Gate, Refused, own_key
from pgherd.relay.poolview import Views
from pgherd.relay.session import LINGER_S
from pgherd.relay.tally import Result
from pgherd.route.orders import Act, Nothing, Show, Verb, read
from pgherd.wire.answer import Refusal, error_response
from pgherd.wire.frames import Frame, Frames
from pgherd.wire.login import Authenticated, authentication, key_data
from pgherd.wire.renewal import status
from pgherd.wire.table import EMPTY, READY, completed, notice, table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pgherd.relay.pooled import Pooled

STATEMENT_BYTES_MAX = 8192
LOOK_S = 0.1
"""How often a PAUSE looks whether servers are left."""

_NOT_ALLOWED, _NOT_SUPPORTED, _CANCELLED = "42501", "0A000", "57014"
_QUERY, _SYNC, _TERMINATE = ord("Q"), ord("S"), ord("X")
_EXTENDED = frozenset(b"PBDECF")
_TOLD = {
    "server_version": f"{__version__} (pgherd)",
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
    "DateStyle": "ISO",
    "TimeZone": "UTC",
    "integer_datetimes": "on",
    "standard_conforming_strings": "on",
}


async def administer(gate: Gate, session: Pooled, proved: Authenticated) -> None:
    """Answer a client of the database `pgherd` until it leaves. Raises Refused."""
    user = dict(proved.startup.parameters)["user"]
    rules = gate.settings.pools
    if user not in (*rules.admins, *rules.viewers):
        text = f'pgherd: user "{user}" may not use the database pgherd'
        hint = "Add it to proxy.pools.admins, or to viewers, of this node."
        raise Refused(Refusal(_NOT_ALLOWED, text, hint), Result.DENIED)
    session.own_key = own_key(proved.startup.minor)
    gate.tally.note(session.listener, Result.OPENED)
    gate.session_joined(session)
    told = b"".join(status(name, value) for name, value in _TOLD.items())
    session.say(authentication(0) + told + key_data(session.own_key) + READY)
    try:
        await Talk(gate, session, user).run()
    except ConnectionResetError:
        session.close(linger_s=0, flush_s=LINGER_S)


class Talk:
    """One client's."""

    def __init__(self, gate: Gate, session: Pooled, user: str) -> None:
        self._gate = gate
        self._session = session
        self._user = user
        self._frames = Frames(skip=b"H", keep=b"Q", keep_bytes=STATEMENT_BYTES_MAX)
        self._cancelled = asyncio.Event()
        session.on_cancel = self._cancelled.set
        self._skips = False  # what belongs to an extended query that was refused

    async def run(self) -> None:
        """Answer statements. Raises ConnectionResetError and ProtocolViolation."""
        async for frame in self._said():
            if frame.kind == _TERMINATE:
                self._session.close(linger_s=0, flush_s=LINGER_S)
                return
            if frame.kind == _SYNC:
                self._skips = False
                self._session.say(READY)
            elif frame.kind in _EXTENDED and not self._skips:
                self._skips = True
                self._refuse(Refusal(_NOT_SUPPORTED, "pgherd: only simple queries are understood"))
            elif frame.kind == _QUERY:
                await self._answer(frame)
                self._session.say(READY)

    async def _said(self) -> AsyncIterator[Frame]:
        while True:
            for frame in self._frames.feed(await self._session.heard()):
                yield frame

    async def _answer(self, frame: Frame) -> None:
        text = frame.body.rstrip(b"\0").decode("utf-8", "replace")
        order = read(text) if frame.is_whole else Refusal("54000", "pgherd: this is too long")
        match order:
            case Refusal():
                self._refuse(order)
            case Nothing():
                self._session.say(EMPTY)
            case _ if (refusal := self._why_not(order)) is not None:
                self._refuse(refusal)
            case Show(view):
                columns, rows = self._views().of(view)
                self._session.say(table(columns, rows, tag="SHOW"))
            case Act():
                await self._act(order)

    def _why_not(self, order: Show | Act) -> Refusal | None:
        """Rights may have changed since the login."""
        rules = self._gate.settings.pools
        if self._user in rules.admins or (isinstance(order, Show) and self._user in rules.viewers):
            return None
        hint = "Add it to proxy.pools.admins of this node."
        return Refusal(_NOT_ALLOWED, f'pgherd: user "{self._user}" may not do that', hint)

    async def _act(self, order: Act) -> None:
        pausing, who = self._gate.pools.pausing, f"{self._user}@{self._session.address}"
        refusal = None
        match order.verb:
            case Verb.PAUSE:
                pausing.pause(order.database, who=who)
                refusal = await self._wait_for_quiet(order.database)
            case Verb.RESUME:
                refusal = pausing.resume(order.database, who=who)
            case Verb.RECONNECT:
                pausing.reconnect(order.database, who=who)
        if refusal is not None:
            self._refuse(refusal)
            return
        self._session.say(completed(order.verb.upper()))

    async def _wait_for_quiet(self, database: str) -> Refusal | None:
        """Until no server is left, or somebody has ended the pause."""
        pausing = self._gate.pools.pausing
        left = sum(lending.pool.size for lending in pausing.of(database))
        if left:
            text = f"{left} server connections are in use: SHOW SERVERS. The pause is in force"
            self._session.say(notice(f"{text}, whether you wait for them or not."))
        self._cancelled.clear()
        while pausing.is_paused(database) and not pausing.is_quiet(database):
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._cancelled.wait()
            except TimeoutError:
                continue
            text = "pgherd: not waited for any longer; the pause is in force"
            return Refusal(_CANCELLED, text, "RESUME ends it, SHOW SERVERS says who holds it up.")
        return None

    def _views(self) -> Views:
        gate = self._gate
        return Views(gate.pools, gate.pooled(), gate.settings.pools)

    def _refuse(self, refusal: Refusal) -> None:
        self._session.say(error_response(refusal, severity="ERROR"))
