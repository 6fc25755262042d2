"""End sessions in which somebody says or takes nothing for too long.

Theory of operation. While a limit is set, every running session is looked at once a second; between
two looks it notes only whether bytes came. Two clocks run for each:

    said    since the client's turn began: nothing comes, and nothing goes on until it does, as
            between statements, in the middle of one that is cut, and while COPY waits for data. A
            statement that runs is never ended, however long it takes, nor is who listens
    taken   since bytes wait in this process for client or server and none of them left

So an end comes up to two seconds late. What the client is told is `session`'s: a word only where it
would be understood.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pgherd.relay.messages import ProxySettings
from pgherd.relay.session import Session

IDLE_SESSION_TIMEOUT = "57P05"
IDLE_IN_TRANSACTION_SESSION_TIMEOUT = "25P03"
READ_TIMEOUT, WRITE_TIMEOUT = "read_timeout", "write_timeout"
"""How the errors are counted."""


class _Seen(msgspec.Struct):
    said_s: float
    taken_s: float
    waiting: tuple[int, int]


class Silences:
    """The clocks of one process's sessions."""

    def __init__(self) -> None:
        self._seen: dict[Session, _Seen] = {}

    def look(
        self, sessions: Iterable[Session], settings: ProxySettings, *, now_s: float
    ) -> list[tuple[Session, str]]:
        """Which sessions have to end, and by which limit. To be called once a second."""
        read_s, write_s = settings.read_timeout_ms / 1000, settings.write_timeout_ms / 1000
        if not read_s and not write_s:
            self._seen.clear()
            return []
        seen: dict[Session, _Seen] = {}
        late: list[tuple[Session, str]] = []
        for session in sessions:
            if not session.is_running:
                continue
            one = seen[session] = self._note(session, now_s)
            if write_s and now_s - one.taken_s >= write_s:
                late.append((session, WRITE_TIMEOUT))
            elif read_s and now_s - one.said_s >= read_s:
                late.append((session, READ_TIMEOUT))
        self._seen = seen
        return late

    def _note(self, session: Session, now_s: float) -> _Seen:
        session.look()
        waiting = session.waiting_bytes
        one = self._seen.get(session)
        if one is None:
            one = _Seen(now_s, now_s, waiting)
        is_excused = not session.is_clients_turn or session.is_resting
        if session.stirred or is_excused or any(waiting):
            one.said_s = now_s
        if waiting != one.waiting or not any(waiting):
            one.taken_s = now_s
        session.stirred, one.waiting = False, waiting
        return one


def end(session: Session, limit: str, settings: ProxySettings) -> None:
    """End a session by one of the limits."""
    if limit == READ_TIMEOUT:
        is_idle = session.is_idle
        session.cut(
            f"pgherd: the client said nothing for {settings.read_timeout_ms / 1000:g} s",
            "The limit is proxy.read_timeout.",
            code=IDLE_SESSION_TIMEOUT if is_idle else IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        )
        return
    session.cut(
        f"pgherd: nothing was taken off the proxy for {settings.write_timeout_ms / 1000:g} s",
        "The limit is proxy.write_timeout.",
    )
