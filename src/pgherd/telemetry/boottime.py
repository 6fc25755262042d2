"""The clock of the deciders, and how late the loop runs on it.

Owns `now_ms`, milliseconds that also count suspend, and the monitor of the loop's lag. Leaves what
a late loop must give up to `daemon`.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Callable

from pgherd.model.ids import Instant

LAG_INTERVAL_MS = 500
BOOT_ID = "/proc/sys/kernel/random/boot_id"
BOOT_ID_LETTERS = 8

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now_ms() -> Instant:
    """Milliseconds since boot, suspend included where the system can tell (Linux)."""
    return Instant(time.clock_gettime_ns(_CLOCK) // 1_000_000)


def boot() -> str:
    """A name for this boot of the machine, without which `now_ms` of another process means nothing.

    Where the system tells none it is a new one for every process: what is remembered is then lost.
    """
    try:
        with open(BOOT_ID, encoding="ascii") as file:
            return file.read(BOOT_ID_LETTERS)
    except OSError:
        return secrets.token_hex(BOOT_ID_LETTERS // 2)


def unix_ms() -> int:
    """Wall-clock milliseconds, for people and records only: no decision reads it."""
    return time.time_ns() // 1_000_000


def until_next(interval_s: float, *, loop: asyncio.AbstractEventLoop | None = None) -> float:
    """Seconds until the loop's clock shows a whole multiple of an interval, at least half of one.

    Whatever waits for such moments wakes up together, and one wake-up costs more than the work.
    """
    now_s = (loop or asyncio.get_running_loop()).time()
    rest_s = interval_s - now_s % interval_s
    return rest_s if rest_s >= interval_s / 2 else rest_s + interval_s


class LoopLag:
    """Sleeps for a short while, again and again, and tells by how much each waking was late."""

    def __init__(self, tell: Callable[[int], None], *, interval_ms: int = LAG_INTERVAL_MS) -> None:
        self._tell = tell
        self._interval_ms = interval_ms
        self._worst_ms = 0
        self._due = now_ms()

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            wait_s = until_next(self._interval_ms / 1000)
            self._due = Instant(now_ms() + math.ceil(wait_s * 1000))
            await asyncio.sleep(wait_s)
            late_ms = max(0, now_ms() - self._due)
            self._worst_ms = max(self._worst_ms, late_ms)
            self._tell(late_ms)

    def take_worst_ms(self) -> int:
        """The worst lag since the last call; counts a stall that is not over yet."""
        worst_ms = max(self._worst_ms, now_ms() - self._due)
        self._worst_ms = 0
        return max(0, worst_ms)
