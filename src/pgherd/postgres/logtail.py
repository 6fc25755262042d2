"""The end of PostgreSQL's log file, and what came since.

Owns cursors into a file that may be replaced, and whole lines only. All functions block; nothing
here hides secrets.
"""

from __future__ import annotations

import os
from pathlib import Path

from pgherd.model.nodelog import BYTES_MAX, LogAsked, LogTold

TAIL_BYTES = 256 << 10


def read(file: Path, asked: LogAsked) -> LogTold:
    """The newest lines, or what came after a cursor. A file that is not there has none."""
    try:
        with file.open("rb") as opened:
            stat = os.fstat(opened.fileno())
            at, follows = _where(asked.cursor, stat)
            if not follows:
                at = max(0, stat.st_size - TAIL_BYTES)
            opened.seek(at)
            data = opened.read(BYTES_MAX if follows else TAIL_BYTES)
    except FileNotFoundError:
        return LogTold((), "")
    whole = data[: data.rfind(b"\n") + 1]
    if not whole and len(data) == BYTES_MAX:
        whole = data  # one line that is longer than an answer may be
    if not follows and at > 0:
        whole, at = whole[whole.find(b"\n") + 1 :], at + whole.find(b"\n") + 1
    lines = whole.decode(errors="backslashreplace").splitlines()
    end = at + len(whole)
    if follows:
        taken = lines[: asked.lines]
        if len(taken) < len(lines):
            end = at + sum(len(line) + 1 for line in whole.split(b"\n")[: len(taken)])
        return LogTold(tuple(taken), f"{stat.st_ino}:{end}")
    skipped = bool(asked.cursor)
    return LogTold(newest(lines, asked.lines), f"{stat.st_ino}:{end}", skipped=skipped)


def newest(lines: list[str], count: int) -> tuple[str, ...]:
    """The last ones that one answer may hold."""
    found: list[str] = []
    size = 0
    for line in reversed(lines[-count:]):
        size += len(line.encode(errors="replace")) + 1
        if size > BYTES_MAX and found:
            break
        found.append(line[:BYTES_MAX])
    return tuple(reversed(found))


def _where(cursor: str, stat: os.stat_result) -> tuple[int, bool]:
    """Where to go on in this file, if the cursor is of it and it was not cut."""
    inode, _, offset = cursor.partition(":")
    if not (inode.isdigit() and offset.isdigit()):
        return 0, False
    if int(inode) != stat.st_ino or int(offset) > stat.st_size:
        return 0, False
    return int(offset), True
