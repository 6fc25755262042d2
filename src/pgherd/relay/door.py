"""Who may come in, and for whom there is a place: the limits of one proxy at work.

Owns the places that sessions take and what the log and the counters say of those who get none.
What the limits are, and what is said to clients, is `route.entry`'s; saying it is `proxy`'s. A
client over a limit is heard to its startup packet: it may turn out to be a CancelRequest, which
needs no place, and its error has to reach it in the form that it asked for.
"""

from __future__ import annotations

import asyncio
import resource

from pgherd.relay.barred import Seldom, packed
from pgherd.relay.messages import ProxySettings
from pgherd.relay.session import Session
from pgherd.relay.tally import Result, Tally
from pgherd.route.entry import Key, Kind, Places, may_come, named
from pgherd.wire.answer import TOO_MANY_CONNECTIONS, Refusal
from pgherd.wire.startup import StartupMessage

SPARE_FILES = 64
"""Descriptors kept for everything that is not a session; a session takes two."""

TURNED_AWAY_MAX = 32
"""Clients over the limit of all that get as far as their startup packet."""


class Door:
    """See the module's text. Everything runs in one event loop."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._places = Places()
        self._barred = Seldom("client.barred", "proxy.allow says who may come in")

    def lets_in(self, session: Session, settings: ProxySettings) -> bool:
        """Whether a client may come in; one that may not is left without a word."""
        client, allow = session.client, settings.allow
        assert client is not None
        if not allow or may_come(packed(session.address), allow):
            return True
        self._tally.note(session.listener, Result.BARRED)
        now_s = asyncio.get_running_loop().time()
        self._barred.note(session.listener.label, now_s=now_s, address=session.address)
        session.closing = True
        client.abort()
        return False

    def full(self, session: Session, settings: ProxySettings, *, open_now: int) -> Refusal | None:
        """Why there is no place for one more, as far as that is known without its name."""
        most = sessions_max(settings)
        if open_now >= most:
            self._tally.errors["limit_total"] += 1
            return Refusal(TOO_MANY_CONNECTIONS, f"pgherd: {most} sessions are open already")
        listener = session.listener
        wanted = {(Kind.LISTENER, listener.label): listener.limit}
        if settings.limits.address:
            wanted[Kind.ADDRESS, session.address] = settings.limits.address
        return self._take(session, wanted)

    def is_beyond(self, settings: ProxySettings, *, open_now: int) -> bool:
        """Whether there is no room even for those that are told so in the proper place."""
        return open_now >= sessions_max(settings) + TURNED_AWAY_MAX

    def named(
        self, session: Session, startup: StartupMessage, settings: ProxySettings
    ) -> Refusal | None:
        """Why there is no place for a session now that user and database are known."""
        if session.turned_away is not None:
            return session.turned_away
        return self._take(session, named(startup.parameters, settings.limits))

    def left(self, session: Session) -> None:
        """A session gives its places back."""
        self._places.leave(session.places)

    def _take(self, session: Session, wanted: dict[Key, int]) -> Refusal | None:
        full = self._places.take(wanted)
        if full is not None:
            self._tally.errors[f"limit_{full.kind}"] += 1
            return full.refusal
        session.places += tuple(wanted)
        return None


def sessions_max(settings: ProxySettings) -> int:
    """As many as are wanted, and as the kernel gives descriptors for."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return min(settings.sessions_max, (files - SPARE_FILES) // 2)
