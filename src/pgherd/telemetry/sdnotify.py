"""Messages to the service manager: ready, stopping, reloading, still alive.

Owns the datagram of sd_notify(3). Without NOTIFY_SOCKET nothing is sent. Standard library only,
for the supervisor uses it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping


def notify(*lines: str, env: Mapping[str, str] = os.environ) -> bool:
    """Send `KEY=value` lines; False when nobody listens. Never waits, never raises."""
    name = env.get("NOTIFY_SOCKET", "")
    if not name.startswith(("/", "@")):
        return False
    address = "\0" + name[1:] if name.startswith("@") else name
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(), address)
    except OSError:
        return False
    return True


def ready(status: str = "") -> bool:
    """The service is up."""
    return notify("READY=1", *([f"STATUS={status}"] if status else []))


def status(text: str) -> bool:
    """One line for `systemctl status`."""
    return notify(f"STATUS={text}")


def reloading() -> bool:
    """A reload begins; `ready` ends it."""
    usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    return notify("RELOADING=1", f"MONOTONIC_USEC={usec}")


def stopping() -> bool:
    """The service goes down."""
    return notify("STOPPING=1")


def alive() -> bool:
    """A sign of life for WatchdogSec."""
    return notify("WATCHDOG=1")


def watchdog_interval_ms(env: Mapping[str, str] = os.environ) -> int | None:
    """How often `alive` must be sent (half the limit); None when this process is not watched."""
    pid = env.get("WATCHDOG_PID", "")
    usec = env.get("WATCHDOG_USEC", "")
    if not usec.isdigit() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) // 2000
