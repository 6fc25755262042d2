"""What rest costs, told apart from what this machine takes for waking a processor up.

A virtual machine whose processors all sleep gives them back to its host, and the next wake-up is
charged to whoever woke: measured here, a bare sleep of 100 ms then costs a process 1.5 ms, and 0.04
ms while anything else runs. `kept_awake` runs a loop of the lowest scheduling class on every
processor, which any other process interrupts at once, so that a figure taken meanwhile is the work
of the process. Owns those loops and the yardstick; what is measured belongs to the benchmarks.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

LOOP = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
while os.getppid() == int(sys.argv[2]):
    for _ in range(100_000):
        pass
"""
"""Ends by itself when whoever started it is gone."""
WAKE_EVERY_S = 0.1


@contextlib.contextmanager
def kept_awake() -> Iterator[None]:
    """No processor of this machine sleeps meanwhile."""
    loops = [
        subprocess.Popen([sys.executable, "-c", LOOP, str(number), str(os.getpid())])
        for number in sorted(os.sched_getaffinity(0))
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def wake_cost_us(seconds: float) -> float:
    """What waking up ten times a second costs a process here and now, and nothing else."""
    end, wakes = time.monotonic() + seconds, 0
    began = time.process_time()
    while time.monotonic() < end:
        time.sleep(WAKE_EVERY_S)
        wakes += 1
    return 1e6 * (time.process_time() - began) / wakes
