"""Threads that are there before they are needed.

A machine that gives no new process gives no new thread either, and what has to happen then (a dead
server is noticed, a server is stopped) reads files aside, on a thread.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

THREADS = 8
"""As many reads of files go on at once; one that hangs with its disk keeps its thread."""


def have_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Let `asyncio.to_thread` use threads that run from now on; raises RuntimeError without any."""
    loop.set_default_executor(running(THREADS, "aside"))


def running(count: int, name: str) -> ThreadPoolExecutor:
    """So many threads that run from now on; raises RuntimeError without any."""
    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    met = threading.Barrier(count + 1)
    for _ in range(count):
        pool.submit(met.wait)
    met.wait()
    return pool
