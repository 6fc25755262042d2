"""CancelRequests of clients: whose key it is, and what becomes of it.

Theory of operation. A key of ours names a session that ends here; what that runs is cancelled by
`waits`. Any other key is a server's: it goes to the one that gave it, or to all that may have. A
server of a pool is not lent to anybody else while a cancel is on its way to it, and never again if
nobody could say whether that still comes: it would hit somebody else's statement.

Owns the keys and the requests under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from pgherd.relay.cancel import cancel_on
from pgherd.relay.session import LINGER_S, Session
from pgherd.relay.waits import Waits
from pgherd.route.choose import Backend, Snapshot
from pgherd.wire.startup import CancelKey

if TYPE_CHECKING:
    from pgherd.relay.terminated import Terminated

CANCELS_AT_ONCE_MAX = 64


class Keyed(Protocol):
    """What is asked of the proxy."""

    waits: Waits
    snapshot: Snapshot | None

    def bound_to(self) -> Iterable[Backend]:
        """The servers of open sessions."""

    def note_error(self, reason: str) -> None:
        """One more error of this kind."""


class Cancels:
    """One proxy's."""

    def __init__(self, proxy: Keyed) -> None:
        self._proxy = proxy
        self._keys: dict[CancelKey, Backend] = {}
        self._own_keys: dict[CancelKey, Terminated] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def learned(self, key: CancelKey, backend: Backend) -> None:
        """A server gave a session this key."""
        self._keys[key] = backend

    def joined(self, key: CancelKey, session: Terminated) -> None:
        """We gave a session this key."""
        self._own_keys[key] = session

    def ended(self, session: Session) -> None:
        """A session is over."""
        if session.key is not None:
            self._keys.pop(session.key, None)

    def ended_here(self, session: Terminated) -> None:
        """A session whose protocol ends here is over."""
        if session.own_key is not None:
            self._own_keys.pop(session.own_key, None)

    def begin(self, session: Session, key: CancelKey) -> None:
        """Do what a client asks for that is no session."""
        if len(self._tasks) >= CANCELS_AT_ONCE_MAX:
            self._proxy.note_error("too_many_cancels")
            session.close(linger_s=0, flush_s=LINGER_S)
            return
        task = asyncio.get_running_loop().create_task(self._cancel(session, key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _cancel(self, session: Session, key: CancelKey) -> None:
        own = self._own_keys.get(key)
        try:
            if own is not None and own.cancel_waiting():
                pass  # no server has heard of it
            elif own is not None:
                with own.aimed_at() as server:
                    has_arrived = await self._proxy.waits.cancel(own)
                    if server is not None and not has_arrived:
                        server.spoil()
            elif not session.ends_here:
                await cancel_on(self._may_know(key), key)
        finally:
            session.close(linger_s=0, flush_s=LINGER_S)

    def _may_know(self, key: CancelKey) -> list[Backend]:
        known = self._keys.get(key)
        if known is not None:
            return [known]
        servers, snapshot = list(self._proxy.bound_to()), self._proxy.snapshot
        if snapshot is not None:
            servers += snapshot.replicas
            servers += [snapshot.primary] if snapshot.primary is not None else []
        return list(dict.fromkeys(servers))
