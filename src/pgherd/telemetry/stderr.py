"""Standard error that never makes its writer wait: a line that finds no room is dropped.

For processes without a thread for it (supervisor, proxy). Standard library only. A pipe or terminal
is opened anew, so that it can be set not to wait without that being so for who shares it; a socket
(systemd's) is asked for room before; a file is written as it is.
"""

from __future__ import annotations

import os
import select
import stat

STDERR = 2
LINE_BYTES_MAX = 4000
"""A pipe takes so much whole or not at all (PIPE_BUF is 4096 on Linux)."""

_REOPENED: dict[int, int] = {}


def say(text: str) -> bool:
    """Write a line; whether it was taken. Never waits, never raises."""
    line = text.encode(errors="backslashreplace")[:LINE_BYTES_MAX] + b"\n"
    try:
        out = _way_out(os.getpid())
        if out == STDERR and not select.select([], [out], [], 0)[1]:
            return False
        os.write(out, line)
    except (OSError, ValueError):
        return False  # full, or nobody reads it any more
    return True


def _way_out(process: int) -> int:
    """The descriptor to write to, found once in each process."""
    if process not in _REOPENED:
        _REOPENED.clear()
        mode = os.fstat(STDERR).st_mode
        _REOPENED[process] = STDERR
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            try:
                _REOPENED[process] = os.open(f"/proc/self/fd/{STDERR}", flags)
            except OSError:
                pass  # not Linux, or not ours: its room is asked for instead
    return _REOPENED[process]
