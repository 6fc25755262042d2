"""The watchdog against a stand-in: a FIFO takes the letters, a table answers the ioctls."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from pgherd.act import watchdog as device
from pgherd.act.watchdog import INFO, MAGIC_CLOSE, SETS_TIMEOUT, Device, WatchdogError
from pgherd.daemon import watchdog as watchdogs
from pgherd.daemon.watchdog import Watchdog
from pgherd.model.demotion import room_ms
from pgherd.model.ids import Instant
from pgherd.model.lease import held_ms, renew_ms
from pgherd.model.watchdog import alive_until, fits, timeout_s
from pgherd.telemetry.boottime import now_ms

TTL_MS = 5000


class StandIn:
    """What the kernel would be: a FIFO that is read, and a timeout that can be set."""

    def __init__(self, place: Path, *, flags: int = MAGIC_CLOSE | SETS_TIMEOUT) -> None:
        self.path = place / "watchdog"
        os.mkfifo(self.path)
        self._end = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self._flags = flags
        self.counts_s = 60
        self.broken = False

    def control(self, descriptor: int, number: int, argument: bytes) -> bytes:
        os.fstat(descriptor)
        if self.broken:
            raise OSError(5, "Input/output error")
        if number == device.GET_SUPPORT:
            return INFO.pack(self._flags, 1, b"stand-in")
        if number == device.SET_TIMEOUT:
            [self.counts_s] = struct.unpack("i", argument)
        return struct.pack("i", self.counts_s)

    def letters(self) -> bytes:
        """What was written since the last time; b"" also when nobody has it open."""
        try:
            return os.read(self._end, 4096)
        except BlockingIOError:
            return b""

    def is_open(self) -> bool:
        """Whether somebody holds it: a reader of a FIFO sees its end when nobody does."""
        try:
            return os.read(self._end, 4096) != b""
        except BlockingIOError:
            return True

    def device(self) -> Device:
        return Device(self.path, control=self.control)

    def close(self) -> None:
        os.close(self._end)


Make = Callable[..., StandIn]


@pytest.fixture
def stand_in(tmp_path: Path) -> Make:
    def make(**more: int) -> StandIn:
        return StandIn(tmp_path, **more)

    return make


def test_the_numbers_are_the_kernels() -> None:
    """linux/watchdog.h on x86 and Arm."""
    assert (device.GET_SUPPORT, device.SET_TIMEOUT, device.GET_TIMEOUT) == (
        0x80285700,
        0xC0045706,
        0x80045707,
    )


@pytest.mark.parametrize("ttl_ms", [5000, 5500, 10_000, 60_000, 3_600_000])
def test_the_machine_is_reset_before_anybody_else_may_lead(ttl_ms: int) -> None:
    """And every renewal that comes in time keeps it alive."""
    counts_s, asked = timeout_s(ttl_ms), Instant(1_000_000)
    deadline = Instant(asked + held_ms(ttl_ms))
    last = alive_until(deadline, ttl_ms=ttl_ms, timeout_s=counts_s)
    assert last + counts_s * 1000 <= deadline + room_ms(ttl_ms)
    assert last > asked + renew_ms(ttl_ms)
    assert fits(ttl_ms, counts_s)
    assert not fits(ttl_ms, 60 * ttl_ms)
    assert not fits(ttl_ms, 0)


def test_armed_kept_alive_and_disarmed(stand_in: Make) -> None:
    """It counts what fits the lease; V and nothing else disarms it."""
    kernel = stand_in()
    used = kernel.device()
    assert used.why_not() == ""
    assert used.arm(3) == 3
    used.keep_alive()
    assert kernel.letters() == b"\0"
    used.disarm()
    assert kernel.letters() == b"V"
    assert not kernel.is_open()
    kernel.close()


def test_a_device_that_is_none_or_held_says_so(tmp_path: Path) -> None:
    missing = Device(tmp_path / "none")
    assert missing.why_not() == f"there is no {tmp_path}/none"
    with pytest.raises(WatchdogError, match="cannot open"):
        missing.arm(3)
    plain = tmp_path / "plain"
    plain.touch()
    with pytest.raises(WatchdogError, match="is no watchdog"):
        Device(plain).arm(3)


def play(story: Callable[[], object]) -> None:
    async def run() -> None:
        result = story()
        if asyncio.iscoroutine(result):
            await result

    asyncio.run(run())


def ahead(ms: int) -> Instant:
    """The deadline of a lease that was asked for so long ago."""
    return Instant(now_ms() - ms + held_ms(TTL_MS))


def test_it_is_kept_alive_only_while_the_lease_lets_it(stand_in: Make) -> None:
    """3 s of 5: a keepalive at most 2 s after the ask. Then none, until the renewal or the end."""
    kernel = stand_in()

    async def story() -> None:
        dog = Watchdog(kernel.device(), required=True)
        assert dog.guard(ahead(0), ttl_ms=TTL_MS, now=now_ms())
        assert kernel.counts_s == 3
        assert kernel.letters() == b"\0"
        await asyncio.sleep(1.2)
        assert kernel.letters() == b"\0"
        assert dog.guard(ahead(2500), ttl_ms=TTL_MS, now=now_ms())
        await asyncio.sleep(1.2)
        assert kernel.letters() == b""
        assert kernel.is_open()
        dog.guard(ahead(100), ttl_ms=TTL_MS, now=now_ms())
        assert kernel.letters() == b"\0"
        dog.at_rest()
        assert kernel.letters() == b"V"
        await asyncio.sleep(1.2)
        assert kernel.letters() == b""
        assert not kernel.is_open()

    play(story)
    kernel.close()


def test_a_timeout_that_does_not_fit_is_refused(stand_in: Make) -> None:
    """A device that cannot be set counts its own 60 s: it would reset long after the lease."""
    kernel = stand_in(flags=MAGIC_CLOSE)

    async def story() -> None:
        for required in (True, False):
            dog = Watchdog(kernel.device(), required=required)
            assert dog.guard(ahead(0), ttl_ms=TTL_MS, now=now_ms()) is not required
            assert kernel.letters() == b"V"
            assert "counts 60 s, too long for a lease of 5 s" in dog.problem()
            [said] = dog.warnings()
            assert ("must not lead" in said) is required

    play(story)
    kernel.close()


def test_one_that_fails_while_it_counts_is_told(stand_in: Make) -> None:
    """Nobody reads it any more: the write fails, and the node must not write alone."""
    kernel = stand_in()

    async def story() -> None:
        dog = Watchdog(kernel.device(), required=True)
        assert dog.guard(ahead(0), ttl_ms=TTL_MS, now=now_ms())
        kernel.close()
        assert not dog.guard(ahead(-100), ttl_ms=TTL_MS, now=now_ms())
        assert "cannot write" in dog.problem()

    play(story)


def test_what_an_earlier_agent_left_counting_is_disarmed_once(stand_in: Make) -> None:
    kernel = stand_in()

    async def story() -> None:
        dog = Watchdog(kernel.device(), required=False)
        dog.calm(ttl_ms=TTL_MS)
        assert kernel.letters() == b"V"
        dog.calm(ttl_ms=TTL_MS)
        assert kernel.letters() == b""

    play(story)
    kernel.close()


def test_one_that_failed_is_tried_again(stand_in: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at every look; and once it works again nothing is said of it any more."""
    kernel = stand_in()
    kernel.broken = True
    monkeypatch.setattr(watchdogs, "AGAIN_MS", 100)

    async def story() -> None:
        dog = Watchdog(kernel.device(), required=True)
        dog.calm(ttl_ms=TTL_MS)
        assert "is no watchdog" in dog.problem()
        kernel.broken = False
        dog.calm(ttl_ms=TTL_MS)
        assert dog.problem()
        await asyncio.sleep(0.15)
        dog.calm(ttl_ms=TTL_MS)
        assert dog.problem() == ""
        assert dog.warnings() == []

    play(story)
    kernel.close()


def test_one_that_never_stops_is_not_even_opened(stand_in: Make, tmp_path: Path) -> None:
    """It would reset the machine as soon as there is a standby again."""
    kernel = stand_in()
    (tmp_path / "watchdog0").mkdir()
    (tmp_path / "watchdog0" / "nowayout").write_text("1\n")

    async def story() -> None:
        dog = Watchdog(Device(kernel.path, control=kernel.control, system=tmp_path), required=False)
        dog.calm(ttl_ms=TTL_MS)
        assert dog.guard(ahead(0), ttl_ms=TTL_MS, now=now_ms())
        assert kernel.letters() == b""
        assert "nowayout" in dog.problem()

    play(story)
    kernel.close()
