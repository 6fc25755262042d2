"""A Linux watchdog device (`/dev/watchdog`): opening it arms it, and only the letter V disarms it.

Owns the kernel's protocol (Documentation/watchdog/watchdog-api.rst) and nothing of when. A device
that is closed in any other way, as by the death of its process, goes on counting. Tested against a
stand-in only: no machine of ours has such a device.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path

READ, WRITE = 2, 1
GROUP = ord("W")
INT = struct.calcsize("i")
INFO = struct.Struct("II32s")
MAGIC_CLOSE, SETS_TIMEOUT = 0x0100, 0x0080

SYSTEM = Path("/sys/class/watchdog")

Control = Callable[[int, int, bytes], bytes]
"""As fcntl.ioctl with bytes: descriptor, request, argument; the answer's bytes."""


def request(direction: int, number: int, size: int) -> int:
    """An ioctl's number, as asm-generic/ioctl.h composes it (x86, Arm, RISC-V, s390)."""
    return direction << 30 | size << 16 | GROUP << 8 | number


GET_SUPPORT = request(READ, 0, INFO.size)
SET_TIMEOUT = request(READ | WRITE, 6, INT)
GET_TIMEOUT = request(READ, 7, INT)


class WatchdogError(Exception):
    """The device cannot be used; says why."""


class Device:
    """One watchdog device, armed while it is open."""

    def __init__(
        self, path: Path, *, control: Control = fcntl.ioctl, system: Path = SYSTEM
    ) -> None:
        self.path = path
        self._control = control
        number = path.name.removeprefix("watchdog") or "0"
        self._nowayout = system / f"watchdog{number}" / "nowayout"
        self._descriptor: int | None = None

    @property
    def is_armed(self) -> bool:
        """Whether it counts, as far as this process knows."""
        return self._descriptor is not None

    def why_not(self) -> str:
        """Why it cannot be armed, as far as that shows without opening it; "" when nothing does."""
        if not self.path.exists():
            return f"there is no {self.path}"
        if not os.access(self.path, os.W_OK):
            return f"{self.path} cannot be written by this user"
        if self._never_stops():
            return f"{self.path} never stops once it is started (nowayout)"
        return ""

    def _never_stops(self) -> bool:
        try:
            return self._nowayout.read_text().strip() == "1"
        except OSError:
            return False

    def arm(self, timeout_s: int) -> int:
        """Open it and have it count so long; how long it does. Raises WatchdogError."""
        try:
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise WatchdogError(f"cannot open {self.path}: {error.strerror}") from error
        return self.set_timeout(timeout_s)

    def set_timeout(self, timeout_s: int) -> int:
        """Have it count so long from its last keepalive; how long it does, which may differ."""
        try:
            flags, _, _ = INFO.unpack(self._ask(GET_SUPPORT, bytes(INFO.size)))
            if flags & SETS_TIMEOUT:
                self._ask(SET_TIMEOUT, struct.pack("i", timeout_s))
            [found] = struct.unpack("i", self._ask(GET_TIMEOUT, bytes(INT)))
        except OSError as error:
            raise WatchdogError(f"{self.path} is no watchdog: {error.strerror}") from error
        return int(found)

    def _ask(self, number: int, argument: bytes) -> bytes:
        assert self._descriptor is not None, "it is not open"
        return self._control(self._descriptor, number, argument)

    def keep_alive(self) -> None:
        """It begins to count anew. Raises WatchdogError."""
        self._write(b"\0")

    def disarm(self) -> None:
        """The letter V, then close: it counts no more, unless its driver was told never to stop."""
        if self._descriptor is None:
            return
        try:
            self._write(b"V")
        finally:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, letter: bytes) -> None:
        assert self._descriptor is not None, "it is not open"
        try:
            os.write(self._descriptor, letter)
        except OSError as error:
            raise WatchdogError(f"cannot write {self.path}: {error.strerror}") from error
