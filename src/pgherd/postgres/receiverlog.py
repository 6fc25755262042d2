"""What a server's log says of its walreceiver: the cause that no view of PostgreSQL tells.

Owns reading the end of the log and the sentences of PostgreSQL that matter (15 to 18, in English:
pgherd makes clusters with `lc_messages` C; in another language the cause is not known).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pgherd.model.remedy import Cause, Said

READ_BYTES_MAX = 64 << 10
TEXT_MAX = 300
SAYS = re.compile(
    r"(?:FATAL|ERROR):  (?P<text>(?:could not (?:connect to the primary server|receive data from"
    r" WAL stream|start WAL streaming)|streaming replication receiver|highest timeline|"
    r"database system identifier differs|primary server|replication slot|"
    r"the primary|terminating walreceiver due to timeout).*)"
)
CAUSES = (
    (Cause.GONE, ("has already been removed", "invalidated", "no longer available")),
    (
        Cause.REFUSED,
        (
            "password authentication failed",
            "no pg_hba.conf entry",
            "authentication failed",
            "no password supplied",
            "must be superuser or replication role",
            "permission denied to start WAL sender",
        ),
    ),
)


def size(path: Path) -> int:
    """How long the log is now; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def last_words(path: Path, *, offset: int) -> Said:
    """The newest thing that was said of the receiver behind an offset."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(end - READ_BYTES_MAX, offset if offset <= end else 0))
            text = file.read(READ_BYTES_MAX).decode(errors="replace")
    except OSError:
        return Said()
    return judge(text)


def judge(text: str) -> Said:
    """The newest sentence about the receiver in a piece of log, and its kind."""
    found = list(SAYS.finditer(text))
    if not found:
        return Said()
    # What libpq adds stands in lines of its own, each after a tab.
    behind = text[found[-1].end() :].split("\n")[1:]
    more = [line.strip() for line in behind[: next_line(behind)]]
    said = " ".join([found[-1]["text"].strip(), *more])[:TEXT_MAX]
    cause = next((one for one, signs in CAUSES if any(s in said for s in signs)), Cause.UNKNOWN)
    return Said(said, cause)


def next_line(lines: list[str]) -> int:
    """How many lines go on with the one before."""
    return next((at for at, line in enumerate(lines) if not line.startswith("\t")), len(lines))
