"""Who carries the bytes of a session when its opening is over (`proxy.engine`).

    uvloop   nobody: the session goes on passing them in the event loop. Always there
    pump     threads of C (`pump`), where the extension was built and its probe works

Owns that choice. It concerns `pool: none` only, and sessions that begin after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.relay.journal import say
from pgherd.relay.messages import Engine
from pgherd.relay.session import Session

if TYPE_CHECKING:
    from pgherd.relay.pump import PumpEngine

_ADVICE = "install gcc and Python's headers, then pgherd anew; or set proxy.engine: uvloop"


class Engines:
    """The engines of one process."""

    def __init__(self) -> None:
        self._wanted: Engine | None = None
        self._pump: PumpEngine | None = None
        self.name = Engine.UVLOOP

    def configure(self, wanted: Engine) -> None:
        """Choose for the sessions that begin from now on. To be called in the event loop.

        A pump that is wanted and cannot be had is no reason to refuse clients: it is logged.
        """
        if wanted is self._wanted:
            return
        self._wanted, self.name = wanted, Engine.UVLOOP
        if wanted is not Engine.UVLOOP:
            problem = self._start_pump()
            if not problem:
                self.name = Engine.PUMP
            elif wanted is Engine.PUMP:
                say("engine.missing", engine=wanted, why=problem, next=_ADVICE)
        say("engine.chosen", engine=self.name)

    def take(self, session: Session) -> None:
        """Carry a session's bytes from here on."""
        if self._pump is not None and self.name is Engine.PUMP:
            self._pump.take(session)

    def totals(self) -> tuple[int, int]:
        """Bytes from clients and from servers that passed outside of the event loop."""
        return self._pump.totals() if self._pump is not None else (0, 0)

    def close(self) -> None:
        """End what is carried, and whoever carries it."""
        if self._pump is not None:
            self._pump.close()
            self._pump, self.name = None, Engine.UVLOOP

    def _start_pump(self) -> str:
        """Start it unless it runs; why that cannot be."""
        if self._pump is not None:
            return ""
        try:
            from pgherd.relay.pump import PumpEngine, probe
        except ImportError as error:
            return f"the extension is not there ({error})"
        try:
            probe()
            self._pump = PumpEngine()
        except OSError as error:
            return f"the extension does not work here ({error})"
        return ""
