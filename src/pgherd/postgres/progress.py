"""How far pg_basebackup or pg_rewind has come, by the lines in which it tells it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from pgherd.model.remedy import Copied

SAYS = re.compile(r"(\d+)/(\d+) kB \((\d+)%\)")

OnProgress = Callable[[Copied], None]


def read(line: str, *, after_ms: int = 0) -> Copied | None:
    """What a line tells; None for one that tells nothing."""
    match = SAYS.search(line)
    if match is None:
        return None
    done, total = int(match[1]) << 10, int(match[2]) << 10
    return Copied(min(100, int(match[3])), done, total, after_ms)


def teller(on_progress: OnProgress | None) -> Callable[[str], None] | None:
    """What `run_tool` hands the lines of a program to that begins now."""
    if on_progress is None:
        return None
    began_s = time.monotonic()

    def tell(line: str) -> None:
        copied = read(line, after_ms=int((time.monotonic() - began_s) * 1000))
        if copied is not None:
            on_progress(copied)

    return tell
