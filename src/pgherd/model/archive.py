"""Files of WAL by their names, and what a node tells of its archive."""

from __future__ import annotations

import re

import msgspec

from pgherd.model.ids import Lsn, Timeline

SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.partial|\.[0-9A-F]{8}\.backup)?")
HISTORY = re.compile(r"([0-9A-F]{8})\.history")
SEGMENT_BYTES = 16 << 20
"""PostgreSQL's own size; pgherd makes clusters with no other, and adopts some that have."""


class WalFile(msgspec.Struct, frozen=True):
    """A file of WAL. begins, ends: what it holds; 0 for a history file, which holds none.

    whole: it is a segment, to its end.
    """

    timeline: Timeline
    begins: Lsn = Lsn(0)
    ends: Lsn = Lsn(0)
    whole: bool = False

    @property
    def is_history(self) -> bool:
        return not self.ends


def read_name(name: str, segment_bytes: int = SEGMENT_BYTES) -> WalFile | None:
    """What a file is, by its name; None for one that belongs into no archive."""
    if match := HISTORY.fullmatch(name):
        return WalFile(Timeline(int(match[1], 16)))
    match = SEGMENT.fullmatch(name)
    if match is None:
        return None
    begins = (int(match[2], 16) << 32) + int(match[3], 16) * segment_bytes
    return WalFile(
        Timeline(int(match[1], 16)), Lsn(begins), Lsn(begins + segment_bytes), match[4] is None
    )


class ArchiveSeen(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node says of the archive.

    place: which one, for people and to be compared · last: the newest segment that it archived of
    its present timeline, last_unix_ms: when it did last archive anything · waiting: files that are
    ready to be archived and are not · failing: why the newest attempt failed, "" while none did ·
    failing_unix_ms: since when · failures, given_up: how many there were since the agent started ·
    gap: the newest file that was given up.
    """

    place: str = ""
    last: str = ""
    last_unix_ms: int = 0
    waiting: int = 0
    failing: str = ""
    failing_unix_ms: int = 0
    failures: int = 0
    given_up: int = 0
    gap: str = ""
