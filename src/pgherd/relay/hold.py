"""Hold clients while the primary hands over: what of it is this proxy's part.

Theory of operation. While the snapshot says `hold`, no transaction begins at the primary: what
sessions whose protocol ends here say outside a transaction stays here, and new ones wait (the
choice has no server for them). What runs may finish. Once nothing does, the agent is told so, and
told again with every snapshot, since it may be another one by then. The hold ends with the reign,
with a snapshot that does not say it any more, or at its deadline, by this process's own clock: an
agent that is gone holds nobody up for ever.

Sessions whose bytes only pass (`pool: none`) cannot be held, and nobody waits for them. Owns who is
held and what is told of it. Leaves what a session keeps to `terminated`, and its way to another
server to `moving`, which is imported only where there are sessions that can go it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeGuard

from pgherd.relay.dial import woken
from pgherd.route.choose import Route, Snapshot
from pgherd.telemetry.boottime import now_ms

if TYPE_CHECKING:
    from pgherd.relay.entrance import Gate
    from pgherd.relay.session import Session
    from pgherd.relay.terminated import Terminated

Tell = Callable[[str], None]


class Hold:
    """One proxy's."""

    def __init__(self, gate: Gate) -> None:
        self.id = ""
        self._gate = gate
        self._busy: set[Session] = set()
        self._held: set[Terminated] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._tell: Tell | None = None
        self.began_s = 0.0

    def connected(self, tell: Tell | None) -> None:
        """Whom to tell that nothing runs; None: nobody is there."""
        self._tell = tell

    def waiting(self) -> int:
        """Sessions that said something which is kept here."""
        return sum(1 for session in self._held if session.kept)

    async def unheld(self, session: Session) -> None:
        """Wait while newcomers of this kind are held."""
        while session.listener.route is Route.PRIMARY and (left_ms := self._left_ms()) > 0:
            await woken(self._gate.news, left_ms / 1000)

    def follow(self, snapshot: Snapshot, sessions: Iterable[Session]) -> None:
        """Take a snapshot."""
        wanted = snapshot.hold if self._left_ms() > 0 else ""
        if self.id and wanted != self.id:
            self._release()
        if wanted and not self.id:
            self._begin(wanted, sessions)
        self._tell_quiet()

    def adrift(self, session: Session, farewell: bytes = b"") -> bool:
        """Its server left it, or leads no more; whether another one is looked for."""
        if not _ends_here(session):
            return False
        if session.abandon():
            self.forget(session)
            return True
        if not session.can_move:
            return False
        from pgherd.relay.moving import begin  # a proxy without such sessions stays lean

        self._held.discard(session)
        begin(self._gate, session, farewell)
        return True

    def forget(self, session: Session) -> None:
        """A session is over, or has no server any more."""
        if _ends_here(session):
            self._held.discard(session)
        self.settled(session)

    def settled(self, session: Session) -> None:
        """A session's transaction is over."""
        if session in self._busy:
            self._busy.discard(session)
            self._tell_quiet()

    def _left_ms(self) -> int:
        snapshot, now = self._gate.snapshot, now_ms()
        if snapshot is None or not snapshot.holds(now):
            return 0
        return snapshot.hold_until - now

    def _begin(self, name: str, sessions: Iterable[Session]) -> None:
        self.id = name
        self._held = {one for one in sessions if _ends_here(one) and _is_primarys(one)}
        self._busy = {one for one in self._held if not (one.is_idle or one.takes_wal)}
        for session in self._held:
            session.held = True
        limit_s, loop = self._left_ms() / 1000, asyncio.get_running_loop()
        self.began_s = loop.time()
        self._timer = loop.call_later(limit_s, self._release)

    def _release(self) -> None:
        self.id = ""
        if self._timer is not None:
            self._timer.cancel()
        held, self._held, self._busy = self._held, set(), set()
        waited_s = asyncio.get_running_loop().time() - self.began_s
        for session in held:
            if session.kept:
                self._gate.tally.waited(waited_s)
            session.go_on()

    def _tell_quiet(self) -> None:
        if self.id and not self._busy and self._tell is not None:
            self._tell(self.id)


def _ends_here(session: Session) -> TypeGuard[Terminated]:
    return session.ends_here


def _is_primarys(session: Session) -> bool:
    return session.bound is not None and session.bound.to_primary and not session.closing
