"""The warden: ends a PostgreSQL that may not write any longer when its agent does not.

Runs inside the supervisor, a bare interpreter, and is told by the agent through a pipe until when
which postmaster may go on (`warding`). It decides nothing else and holds nothing else: at that
instant, unless told a later one or that all is at rest, it kills exactly that postmaster with all
of its processes, and leaves a sentence about it for the agent. Nothing is told, and nobody wakes,
while no lease counts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from pgherd.postgres import tree

WARDEN = "PGHERD_WARDEN"
"""The descriptor of the pipe, for the agent."""

WATCH, REST = b"watch", b"rest"
END = b"\0"
CLOCK_LOOK_S = 2.0
"""Sleeping counts no suspend, the deadline does: while one is kept the clock is read so often."""


def now_ms() -> int:
    """The agent's clock (`telemetry.boottime`), without which a deadline means nothing."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


class Warden:
    """What the agent last said, and what follows from it.

    end: this end of the pipe · verdict: the file that says why a server was killed · tell: a line
    for people.
    """

    def __init__(self, end: int, verdict: str, tell: Callable[[str], None]) -> None:
        self.end = end
        os.set_blocking(end, False)
        self._verdict = verdict
        self._say = tell
        self._rest = b""
        self._until = 0
        self._pid = self._started = 0
        self._data_dir = ""

    @property
    def watches(self) -> bool:
        """Whether there is a deadline to keep."""
        return self._until > 0

    def hear(self) -> None:
        """Take in what the agent said; only its last word counts."""
        try:
            said = os.read(self.end, 65536)
        except BlockingIOError:
            return
        *words, self._rest = (self._rest + said).split(END)
        if words:
            self._take(words[-1].split(b" ", 4))

    def _take(self, words: list[bytes]) -> None:
        if words[0] == REST or len(words) < 5:
            self._until = 0
            return
        self._until, self._pid, self._started = (int(word) for word in words[1:4])
        self._data_dir = os.fsdecode(words[4])

    def pause_s(self) -> float | None:
        """How long there is nothing to do; None: until the agent says something."""
        if not self._until:
            return None
        return max(0.0, min(CLOCK_LOOK_S, (self._until - now_ms()) / 1000))

    def act(self) -> None:
        """Kill what has outlived its deadline."""
        if not self._until or now_ms() < self._until:
            return
        self.hear()
        late_ms = now_ms() - self._until
        if not self._until or late_ms < 0:
            return
        self._until = 0
        killed = tree.kill_postmaster(self._data_dir, self._pid, self._started)
        if not killed:
            return
        ms = now_ms() - late_ms
        text = (
            f"PostgreSQL in {self._data_dir} was killed: its lease ran out and its agent neither"
            f" renewed it nor closed the server ({killed} processes, {late_ms} ms after the time)"
        )
        self._leave(f"{ms} {int(time.time() * 1000)} {text}\n")
        self._say(text)

    def _leave(self, text: str) -> None:
        """For the agent, whenever it runs again; a directory that cannot be written loses it."""
        try:
            with open(f"{self._verdict}.new", "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(f"{self._verdict}.new", self._verdict)
        except OSError as error:
            self._say(f"cannot leave word in {self._verdict}: {error.strerror}")

    def see_it_through(self) -> None:
        """Before the supervisor ends: nobody else keeps this deadline after it."""
        self.hear()
        if self.watches:
            self._say("waits for the deadline of a server that its agent left open")
        while self.watches:
            time.sleep(min(0.2, self.pause_s() or 0.0))
            self.hear()
            self.act()
