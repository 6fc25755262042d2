"""Prove on real processes that trees are found whole and killed whole, and zombies are dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from pgherd.proof import processes

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                         start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def family() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process and its child in a session of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            yield parent, child
        finally:
            processes.send([parent.pid, child], signal.SIGKILL)


def test_descendants_are_found_across_sessions(
    family: tuple[subprocess.Popen[str], int],
) -> None:
    parent, child = family
    everything = processes.scan()
    found = processes.with_descendants(everything, lambda one: one.pid == parent.pid)
    assert set(found) == {parent.pid, child}
    assert found[child].session == child
    assert os.getpid() not in processes.with_descendants(everything, lambda one: True)


def test_kill_all_leaves_nothing_and_zombies_count_as_dead(
    family: tuple[subprocess.Popen[str], int],
) -> None:
    """The killed parent is our zombie until it is collected, and yet it is not alive."""
    parent, child = family
    chosen = {parent.pid, child}
    killed = processes.kill_all(
        lambda: {pid: one for pid, one in processes.scan().items() if pid in chosen}
    )
    assert killed == 2
    assert not processes.is_alive(parent.pid)
    assert not processes.is_alive(child)


def test_usage_counts_memory_and_processor_time() -> None:
    """Of this very process: at least what it is known to hold and to have used."""
    me = processes.scan()[os.getpid()]
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    used = processes.usage([me])
    assert used.processes == 1
    assert used.rss_bytes > 10_000_000
    assert 0 < used.pss_bytes <= used.rss_bytes
    assert used.cpu_s > 0
