"""A timer undoes even when whoever armed it is gone, and only once when it is not."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from pgherd.chaos.timers import Timer

ARM_AND_DIE = """
import os, signal, sys
from pgherd.chaos.timers import Timer
Timer(0.3, f"echo undone >> {sys.argv[1]}")
os.kill(os.getpid(), signal.SIGKILL)
"""


def wait_for(file: Path) -> str:
    until = time.monotonic() + 20
    while not (file.exists() and file.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    return file.read_text()


def test_it_undoes_when_its_run_was_killed(tmp_path: Path) -> None:
    file = tmp_path / "undone"
    done = subprocess.run([sys.executable, "-c", ARM_AND_DIE, str(file)], check=False)
    assert done.returncode < 0
    assert wait_for(file) == "undone\n"


def test_what_is_undone_early_is_undone_once(tmp_path: Path) -> None:
    file = tmp_path / "undone"
    timer = Timer(0.5, f"echo undone >> {file}")
    timer.now()
    assert file.read_text() == "undone\n"
    time.sleep(0.7)
    assert file.read_text() == "undone\n"
