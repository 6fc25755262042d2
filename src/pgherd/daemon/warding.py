"""What the agent tells its warden: until when its server may write alone (`warden`).

Tells before a server opens, at every renewal, and when nothing is written alone any more; nothing
at all otherwise. Owns the timer that wakes the agent at the deadline, and what is told to people of
what the warden did. Decides nothing.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import os
import termios
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pgherd.daemon.supervise import verdict_path
from pgherd.daemon.warden import END, REST, WARDEN, WATCH
from pgherd.model.action import Action
from pgherd.model.demotion import WARDEN_MS
from pgherd.model.ids import Instant
from pgherd.model.observation import ServerSeen
from pgherd.plan.wardship import is_closing, writes_alone
from pgherd.postgres import tree
from pgherd.telemetry import logs

if TYPE_CHECKING:
    from pgherd.config.settings import Settings
    from pgherd.daemon.build import Node
    from pgherd.daemon.watchdog import Watchdog

log = logs.get("daemon")

DEAF_MS = 3000
"""A warden that has not taken what it was told for so long does not run."""

LOOK_MS = 1000

SAID_FOR_MS = 600_000
"""For so long `status` repeats that the warden killed a server; the journal keeps it."""


class Warding:
    """One agent's word to its warden. pipe: None where no supervisor gave one.

    tell: an event's kind and its sentence, for the journal.
    """

    def __init__(
        self,
        pipe: int | None,
        *,
        data_dir: Path,
        verdict: Path,
        watchdog: Watchdog | None,
        tell: Callable[[str, str], None],
        wake: Callable[[], None],
    ) -> None:
        self.doing: Callable[[], Action | None] = lambda: None
        """What the agent's executor is at."""
        self._pipe = pipe
        self._data_dir = data_dir
        self._verdict = verdict
        self._watchdog = watchdog
        self._tell = tell
        self._wake = wake
        self._timer: asyncio.TimerHandle | None = None
        self._until = Instant(0)
        self._told_at = Instant(0)
        self._server = (0, 0)
        self._said, self._said_at = "", Instant(0)
        self._deaf = False
        self._looked_at: Instant | None = None

    @property
    def watched(self) -> bool:
        """Whether the warden keeps a deadline."""
        return self._until > 0

    def before(
        self,
        planned: Action | None,
        server: ServerSeen,
        *,
        deadline: Instant | None,
        ttl_ms: int,
        now: Instant,
    ) -> bool:
        """To be called before anything is done, and whenever the agent looks; whether to do it.

        deadline: of the lease that this node can count on; without one nothing is added to what
        was told.
        """
        self._look(now)
        if not writes_alone(server, planned):
            closing = is_closing(server, planned) or is_closing(server, self.doing())
            if self.watched and not closing:
                self.at_rest()
            if self._watchdog is not None:
                self._watchdog.calm(ttl_ms=ttl_ms)
            return True
        if deadline is None or deadline <= now:
            return True
        if (deadline, server.pid) != (self._until, self._server[0]):
            self._watch(deadline, server.pid, now=now)
        watchdog = self._watchdog
        return watchdog is None or watchdog.guard(deadline, ttl_ms=ttl_ms, now=now)

    def lacks(self) -> str:
        """Why its watchdog forbids that this node writes alone; "" when it may."""
        watchdog = self._watchdog
        return watchdog.problem() if watchdog is not None and watchdog.required else ""

    def _watch(self, deadline: Instant, pid: int, *, now: Instant) -> None:
        if pid != self._server[0]:
            self._server = pid, tree.start_ticks(pid)
        self._until, self._told_at = deadline, now
        words = [str(number).encode() for number in (deadline + WARDEN_MS, *self._server)]
        self._send(b" ".join([WATCH, *words, os.fsencode(self._data_dir)]))
        self._wake_in((deadline - now) / 1000)

    def at_rest(self) -> None:
        """Nothing is acknowledged alone any more."""
        self._until = Instant(0)
        self._wake_in(None)
        if self._watchdog is not None:
            self._watchdog.at_rest()
        self._send(REST)

    def _wake_in(self, delay_s: float | None) -> None:
        """The agent wakes at the deadline itself; a renewed one never comes."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if delay_s is not None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._wake)

    def _send(self, words: bytes) -> None:
        if self._pipe is None:
            return
        try:
            os.write(self._pipe, words + END)
        except BlockingIOError:
            pass  # it takes nothing: `warnings` says so
        except OSError as error:
            log.error("warden.lost", reason=error.strerror)
            self._pipe = None

    def _look(self, now: Instant) -> None:
        """Now and then: read what the warden did without this agent, and whether it still runs."""
        if self._looked_at is not None and now - self._looked_at < LOOK_MS:
            return
        self._looked_at = now
        if self._verdict.exists():
            with contextlib.suppress(OSError, ValueError):
                _, _, text = self._verdict.read_text().strip().split(" ", 2)
                self._verdict.unlink()
                self._said, self._said_at = f"the warden ended a server: {text}", now
                log.error("warden.killed", reason=text)
                self._tell("warden.killed", text)
        deaf = self._is_deaf(now)
        if deaf != self._deaf:
            self._deaf = deaf
            say = log.error if deaf else log.info
            say("warden.deaf" if deaf else "warden.hears", supervisor=os.getppid())

    def _is_deaf(self, now: Instant) -> bool:
        if self._pipe is None or not self.watched or now - self._told_at < DEAF_MS:
            return False
        waiting = array.array("i", [0])
        fcntl.ioctl(self._pipe, termios.FIONREAD, waiting)
        return waiting[0] > 0

    def warnings(self, *, now: Instant) -> list[str]:
        """What people should know of it now."""
        found = []
        if self._said and now - self._said_at < SAID_FOR_MS:
            found.append(self._said)
        if self._pipe is None and self.watched:
            found.append(
                "it has no warden: nobody would stop PostgreSQL if this agent hung; restart pgherd"
            )
        if self._deaf:
            found.append(
                f"the warden does not answer: nobody would stop PostgreSQL if this agent hung;"
                f" look at process {os.getppid()}"
            )
        return found + (self._watchdog.warnings() if self._watchdog is not None else [])


def attach(node: Node, control: Path) -> Warding:
    """One node's warding. control: its local channel, beside which the warden leaves its word."""
    number = os.environ.get(WARDEN)
    made = Warding(
        int(number) if number is not None else None,
        data_dir=node.settings.postgresql.data_dir,
        verdict=Path(verdict_path(str(control))),
        watchdog=watchdog_of(node.settings),
        tell=lambda kind, text: node.stories.tell(kind, text, term=node.agent.facts.term),
        wake=lambda: node.agent.observed(),
    )
    if node.executor is not None:
        node.executor.hands.at_rest = made.at_rest
        made.doing = node.executor.doing
    return made


def watchdog_of(settings: Settings) -> Watchdog | None:
    """The device that the configuration names; None where none is wanted, or no server runs."""
    failover = settings.failover
    if failover.watchdog == "off" or not settings.has_server:
        return None
    from pgherd.act.watchdog import Device
    from pgherd.daemon.watchdog import Watchdog

    return Watchdog(Device(failover.watchdog_device), required=failover.watchdog == "required")


async def leave(node: Node, *, stops: bool, orphaned: bool) -> None:
    """Before the agent ends: who keeps the deadline of a server that writes alone?

    stops: the server ends as well, and its sessions at once · orphaned: the supervisor is gone, so
    that nobody would; else the warden does, until the next agent.
    """
    executor, made = node.executor, node.warding
    if executor is None or not made.watched:
        return
    if stops:
        made.at_rest()
    elif orphaned:
        from pgherd.act.demoting import hold_or_stop  # a witness never loads a driver
        from pgherd.act.hands import ActFailed

        log.warning("server.closed", reason="agent and warden end: nothing is written alone")
        with contextlib.suppress(ActFailed):
            await hold_or_stop(executor.hands)
