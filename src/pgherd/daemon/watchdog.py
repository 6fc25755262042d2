"""The watchdog device in the agent's hands: armed while this node's server writes alone.

Not while it has synchronous standbys: a hung agent does no harm then, and a machine that is reset
for it would. Kept alive by the agent's own loop, and only as long as the lease lets it
(`model.watchdog`), so that a machine on which nothing runs any more is reset in time.
"""

from __future__ import annotations

import asyncio

from pgherd.act.watchdog import Device, WatchdogError
from pgherd.model.ids import Instant
from pgherd.model.watchdog import alive_until, fits, timeout_s
from pgherd.telemetry import logs
from pgherd.telemetry.boottime import now_ms

log = logs.get("daemon")

KEEP_ALIVE_MS = 1000
AGAIN_MS = 10_000
"""A device that could not be used is tried again after so long."""


class Watchdog:
    """One node's device. required: without it nothing is written alone here."""

    def __init__(self, device: Device, *, required: bool) -> None:
        self.required = required
        self._device = device
        self._counts_s = 0
        self._wanted_s = 0
        self._until = Instant(0)
        self._timer: asyncio.TimerHandle | None = None
        self._failure = self._logged = ""
        self._failed_at = Instant(0)
        self._is_first = True

    def problem(self) -> str:
        """Why it would not guard this node; "" when it would, or does."""
        if self._device.is_armed:
            return ""
        return self._failure or self._device.why_not()

    def guard(self, deadline: Instant, *, ttl_ms: int, now: Instant) -> bool:
        """The server writes alone, or is about to, until then; whether it is guarded, or need not.

        Safe to call often.
        """
        self._is_first = False
        try:
            if not self._device.is_armed:
                self._arm(ttl_ms, now)
            elif self._wanted_s != timeout_s(ttl_ms):
                self._take(self._device.set_timeout(timeout_s(ttl_ms)), ttl_ms)
        except WatchdogError as error:
            self._fail(str(error), now)
        if self.problem():
            return not self.required
        until = alive_until(deadline, ttl_ms=ttl_ms, timeout_s=self._counts_s)
        if until != self._until:
            self._until = until
            self._keep_alive()
        return not self.problem() or not self.required

    def _arm(self, ttl_ms: int, now: Instant) -> None:
        if self._failure and now - self._failed_at < AGAIN_MS:
            return
        if why := self._device.why_not():
            raise WatchdogError(why)
        self._take(self._device.arm(timeout_s(ttl_ms)), ttl_ms)
        self._failure = self._logged = ""
        log.info("watchdog.armed", device=str(self._device.path), seconds=self._counts_s)

    def _take(self, counts_s: int, ttl_ms: int) -> None:
        self._wanted_s, self._counts_s = timeout_s(ttl_ms), counts_s
        if not fits(ttl_ms, counts_s):
            raise WatchdogError(
                f"{self._device.path} counts {counts_s} s, too long for a lease of"
                f" {ttl_ms / 1000:g} s"
            )

    def _fail(self, why: str, now: Instant) -> None:
        self._failure, self._failed_at = why, now
        if why != self._logged:
            self._logged = why
            log.error("watchdog.failed", reason=why)
        self.at_rest()

    def _keep_alive(self) -> None:
        """Now, and again in a second or at the last instant at which that is allowed."""
        self._cancel()
        now = now_ms()
        if not self._device.is_armed or now > self._until:
            return
        try:
            self._device.keep_alive()
        except WatchdogError as error:
            self._fail(str(error), now)
            return
        if now < self._until:
            wait_ms = min(KEEP_ALIVE_MS, self._until - now)
            self._timer = asyncio.get_running_loop().call_later(wait_ms / 1000, self._keep_alive)

    def at_rest(self) -> None:
        """Nothing is written alone any more."""
        self._cancel()
        self._until = Instant(0)
        was_armed = self._device.is_armed
        try:
            self._device.disarm()
        except WatchdogError as error:
            log.error("watchdog.failed", reason=f"it may reset this machine: {error}")
        if was_armed:
            log.info("watchdog.disarmed", device=str(self._device.path))

    def calm(self, *, ttl_ms: int) -> None:
        """Nothing is written alone.

        Tried out once, which also ends what an earlier agent that died has left counting, and then
        again now and then if it failed.
        """
        now = now_ms()
        if self._device.is_armed:
            self.at_rest()
        elif self._is_first or (self._failure and now - self._failed_at >= AGAIN_MS):
            self._failure = ""
            try:
                self._arm(ttl_ms, now)
            except WatchdogError as error:
                self._fail(str(error), now)
            self.at_rest()
        self._is_first = False

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def warnings(self) -> list[str]:
        """That there is none though one was wanted."""
        why = self.problem()
        if not why:
            return []
        effect = "must not lead" if self.required else "would write alone unguarded"
        return [f"it has no watchdog and {effect}: {why}"]
