"""Find and connect a server for a waiting client.

Owns waiting: until a snapshot has a server for the client, until that server accepts, and no longer
than `connect_timeout_ms`. A new snapshot wakes every waiter at once and ends attempts at a server
that is not the right one any more; without news a refused attempt is repeated with pauses that grow
from RETRY_S_MIN to RETRY_S_MAX.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Protocol

from pgherd.model.ids import NodeId
from pgherd.relay.messages import ListenerSettings, LocalServer, ProxySettings
from pgherd.relay.session import Host, Side
from pgherd.relay.sockets import connect
from pgherd.route.choose import Backend, Bound, NoBackend, Route

RETRY_S_MIN = 0.05
RETRY_S_MAX = 0.4
HINT_REFUSED = "Try again shortly; `pgherd status` and `pgherd explain` say what is going on."

Connecting = asyncio.Task[tuple[asyncio.Transport, Side]]
Attempt = asyncio.Task[Any]
"""A connection under way, or a login on it."""


class Caller(Protocol):
    """Who wants a server: a session, or whoever opens servers for several."""

    listener: ListenerSettings
    by_socket: bool

    def server_side(self) -> Side:
        """What listens to the server that is connected to."""


class Router(Host, Protocol):
    """What dialling needs of the proxy: its snapshot's answers and the counts behind them.

    attempts: what is under way, and what it is for; the router cancels the task of one whose choice
    does not hold any more.
    """

    settings: ProxySettings
    news: asyncio.Event
    attempts: dict[Attempt, Bound]

    def choose(
        self, listener: ListenerSettings, exclude: Collection[NodeId], route: Route | None = None
    ) -> Bound | NoBackend:
        """The server for a new session now."""

    def holds(self, bound: Bound) -> bool:
        """Whether a choice made a moment ago may still be used."""

    def count(self, backend: Backend, change: int) -> None:
        """A session to a server begins or ends, attempts included."""

    def note_error(self, reason: str) -> None:
        """One more error of this kind."""


class Dialled:
    """A connected server, already counted; both are the caller's from here on."""

    __slots__ = ("bound", "transport")

    def __init__(self, bound: Bound, transport: asyncio.Transport) -> None:
        self.bound = bound
        self.transport = transport


async def dial(
    router: Router, session: Caller, *, deadline_s: float | None = None
) -> Dialled | NoBackend:
    """Wait for a server and connect to it; the last reason when the time is over.

    deadline_s: of the loop's clock, where the wait began earlier.
    """
    loop = asyncio.get_running_loop()
    deadline = deadline_s or loop.time() + router.settings.connect_timeout_ms / 1000
    refused: dict[NodeId, NoBackend] = {}
    known: dict[NodeId, NoBackend] = {}  # what an attempt said that had its time
    pause_s = RETRY_S_MIN
    while True:
        news, left_s = router.news, deadline - loop.time()
        choice = router.choose(session.listener, refused)
        if isinstance(choice, Bound) and left_s > 0:
            outcome = await attempt(router, session, bound=choice, left_s=left_s)
            if isinstance(outcome, Dialled):
                return outcome
            if outcome is not None:
                name, is_cut = choice.backend.name, left_s < router.settings.attempt_ms / 1000
                refused[name] = known.get(name, outcome) if is_cut else outcome
            continue
        if isinstance(choice, NoBackend) and choice.final:
            return choice
        if left_s <= 0:
            return _reason(choice, refused)
        if await woken(news, min(left_s, pause_s) if refused else left_s):
            pause_s = RETRY_S_MIN
        else:
            pause_s = min(pause_s * 2, RETRY_S_MAX)
        if deadline > loop.time():
            known.update(refused)
            refused.clear()


async def attempt(
    router: Router, session: Caller, *, bound: Bound, left_s: float
) -> Dialled | NoBackend | None:
    """Connect once. None: the choice did not hold, choose again."""
    backend = bound.backend
    connecting = _connect(router, session, backend)
    router.attempts[connecting] = bound
    router.count(backend, 1)
    kept = False
    try:
        await asyncio.wait([connecting], timeout=min(router.settings.attempt_ms / 1000, left_s))
        if not connecting.done():
            return _failed(router, backend, "does not answer")
        if connecting.cancelled():
            return None
        transport, side = connecting.result()
        if side.lost_early:
            return _failed(router, backend, "closed the connection at once")
        kept = router.holds(bound)
        return Dialled(bound, transport) if kept else None
    except OSError as error:
        return _failed(router, backend, f"cannot be reached ({error.strerror or error})")
    finally:
        del router.attempts[connecting]
        if not kept:
            router.count(backend, -1)
            connecting.cancel()
            connecting.add_done_callback(_discard)


def _connect(router: Router, session: Caller, backend: Backend) -> Connecting:
    host, port = way(backend, router.settings.local if session.by_socket else None)
    reaching = connect(session.server_side, host, port)
    return asyncio.get_running_loop().create_task(reaching)


def way(backend: Backend, local: LocalServer | None) -> tuple[str, int]:
    """Where to connect: host and port, or directory and port of a Unix socket."""
    if local is not None and backend.name == local.node:
        return local.directory, local.port
    return backend.host, backend.port


def _discard(connecting: Connecting) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result()[0].abort()


def _failed(router: Router, backend: Backend, what: str) -> NoBackend:
    router.note_error("connect_failed")
    return NoBackend("57P03", f"{backend.name} at {backend.host}:{backend.port} {what}")


def _reason(choice: Bound | NoBackend, refused: dict[NodeId, NoBackend]) -> NoBackend:
    """What to tell a client whose time is over: the servers' own failures say most."""
    if refused:
        message = "; ".join(one.message for one in refused.values())
        return NoBackend("57P03", message)
    if isinstance(choice, NoBackend):
        return choice
    return NoBackend("57P03", f"{choice.backend.name} could not be reached in time")


async def woken(news: asyncio.Event, limit_s: float) -> bool:
    """Wait for news; False when there was none in time."""
    try:
        await asyncio.wait_for(news.wait(), limit_s)
    except TimeoutError:
        return False
    return True
