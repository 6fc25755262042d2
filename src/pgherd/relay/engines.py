"""Who carries the bytes of a session when its opening is over (`proxy.engine`).

    uvloop   nobody: the session goes on passing them in the event loop. Always there
    pump     threads of C (`pump`) on epoll, where the extension was built and its probe works
    uring    the same threads on io_uring: only where it is asked for, and the kernel allows it

Owns that choice. It concerns `pool: none` only, and sessions that begin after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pgherd.relay.journal import say
from pgherd.relay.messages import Engine
from pgherd.relay.session import Session

if TYPE_CHECKING:
    from pgherd.relay.pump import PumpEngine

_TRIED: dict[Engine, tuple[Engine, ...]] = {
    Engine.AUTO: (Engine.PUMP,),
    Engine.UVLOOP: (),
    Engine.PUMP: (Engine.PUMP,),
    Engine.URING: (Engine.URING, Engine.PUMP),
}
"""In this order; the event loop is what is left."""
BUILD = "install gcc and Python's headers, then pgherd anew; or set proxy.engine: uvloop"
_ALLOW = (
    "run Linux 6.1 or later with kernel.io_uring_disabled = 0, in a sandbox that allows io_uring,"
    " with pgherd built where linux/io_uring.h is of 6.1 or later; or set proxy.engine: auto"
)


class Engines:
    """The engines of one process."""

    def __init__(self) -> None:
        self._wanted: Engine | None = None
        self._pumps: dict[Engine, PumpEngine] = {}
        self.name = Engine.UVLOOP
        self.others: list[Callable[[], tuple[int, int]]] = []
        """Who else passes bytes outside of the event loop."""

    def configure(self, wanted: Engine) -> None:
        """Choose for the sessions that begin from now on. To be called in the event loop.

        An engine that is wanted and cannot be had is no reason to refuse clients: it is logged.
        """
        if wanted is self._wanted:
            return
        self._wanted, self.name = wanted, Engine.UVLOOP
        for name in _TRIED[wanted]:
            problem, advice = self._start(name)
            if not problem:
                self.name = name
                break
            if name is wanted:
                say("engine.missing", engine=wanted, why=problem, next=advice)
        say("engine.chosen", engine=self.name)

    def take(self, session: Session) -> None:
        """Carry a session's bytes from here on."""
        pump = self._pumps.get(self.name)
        if pump is not None:
            pump.take(session)

    def totals(self) -> tuple[int, int]:
        """Bytes from clients and from servers that passed outside of the event loop."""
        each = [pump.totals() for pump in self._pumps.values()]
        each += [passed() for passed in self.others]
        return sum(clients for clients, _ in each), sum(servers for _, servers in each)

    def close(self) -> None:
        """End what is carried, and whoever carries it."""
        for pump in self._pumps.values():
            pump.close()
        self._pumps, self.name = {}, Engine.UVLOOP

    def _start(self, name: Engine) -> tuple[str, str]:
        """Start one unless it runs; else why that cannot be, and what to do about it."""
        if name in self._pumps:
            return "", ""
        try:
            from pgherd.relay.pump import PumpEngine, probe
        except ImportError as error:
            return f"the extension is not there ({error})", BUILD
        uring = name is Engine.URING
        try:
            probe(uring=uring)
            self._pumps[name] = PumpEngine(uring=uring)
        except OSError as error:
            return f"it does not work here ({error})", _ALLOW if uring else BUILD
        return "", ""
