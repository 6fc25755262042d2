"""The clock goes forward, a late loop is noticed, and the service manager gets its datagrams."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from pgherd.telemetry.boottime import LoopLag, boot, now_ms
from pgherd.telemetry.sdnotify import notify, watchdog_interval_ms


def test_the_clock_goes_forward() -> None:
    readings = [now_ms() for _ in range(100)]
    assert readings == sorted(readings)


def test_a_boot_has_a_name_that_another_process_finds_too() -> None:
    """What a process remembers of the clock is worth something to the next one, until a reboot."""
    again = "from pgherd.telemetry.boottime import boot; print(boot(), end='')"
    other = subprocess.run([sys.executable, "-c", again], capture_output=True, check=True)
    assert other.stdout.decode() == boot()
    assert len(boot()) == 8


def test_a_stalled_loop_is_seen_while_it_stalls_and_afterwards() -> None:
    told: list[int] = []

    async def stall() -> int:
        woken = asyncio.Event()

        def tell(ms: int) -> None:
            told.append(ms)
            woken.set()

        lag = LoopLag(tell, interval_ms=5)
        task = asyncio.create_task(lag.run())
        await woken.wait()
        woken.clear()
        time.sleep(0.08)  # noqa: ASYNC251 - a loop that does something slow
        during_ms = lag.take_worst_ms()
        await woken.wait()
        task.cancel()
        return during_ms

    assert asyncio.run(stall()) >= 60
    assert max(told) >= 60


def test_the_service_manager_hears_us(tmp_path: Path) -> None:
    for name in (str(tmp_path / "notify"), f"@pgherd-test-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind("\0" + name[1:] if name.startswith("@") else name)
            assert notify("READY=1", "STATUS=primary", env={"NOTIFY_SOCKET": name})
            assert manager.recv(100) == b"READY=1\nSTATUS=primary"


def test_the_supervisor_says_that_it_stops(tmp_path: Path) -> None:
    """In a bare interpreter, as it runs; a manager that is gone does not keep it from stopping."""
    code = "from pgherd.daemon.supervise import notify; notify('STOPPING=1'); print('goes on')"
    path = str(Path(__file__).parents[3] / "src")
    command = [sys.executable, "-S", "-c", f"import sys; sys.path.append({path!r}); {code}"]
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(20)
        env = {**os.environ, "NOTIFY_SOCKET": address}
        assert subprocess.run(command, env=env, check=True, capture_output=True).stdout
        assert manager.recv(100) == b"STOPPING=1"
    os.unlink(address)
    gone = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    assert (gone.returncode, gone.stdout) == (0, "goes on\n"), gone.stderr


def test_without_a_manager_nothing_is_sent(tmp_path: Path) -> None:
    assert not notify("READY=1", env={})
    assert not notify("READY=1", env={"NOTIFY_SOCKET": "vsock:2:1"})
    assert not notify("READY=1", env={"NOTIFY_SOCKET": str(tmp_path / "absent")})


def test_the_watchdog_is_for_this_process_only() -> None:
    assert watchdog_interval_ms({"WATCHDOG_USEC": "3000000"}) == 1500
    mine = {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}
    assert watchdog_interval_ms(mine) == 1500
    assert watchdog_interval_ms({**mine, "WATCHDOG_PID": "1"}) is None
    assert watchdog_interval_ms({}) is None
