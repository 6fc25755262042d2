"""Undo what would hang a machine, even when the run that did it is dead.

A frozen file system or a stopped process waits for ever for somebody who may be gone. A timer is a
process of its own, in a session of its own, that undoes after a while whatever has become of the
run. Owns arming and ending such timers.
"""

from __future__ import annotations

import os
import signal
import subprocess


class Timer:
    """Types a command after some seconds, unless it is done earlier."""

    def __init__(self, seconds: float, command: str) -> None:
        self._command = command
        self._process = subprocess.Popen(
            ["sh", "-c", f"sleep {seconds:.1f}; {command}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def now(self) -> None:
        """Undo at once, and need no timer any more."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        subprocess.run(["sh", "-c", self._command], check=False, capture_output=True, timeout=60)
