"""The journal: this node's events, the newest in memory, all of them appended to a file.

Owns the bounded memory, numbering, the JSON lines on disk and waking those who follow. Leaves
what is an event to the rooms that record it. `record` never waits and never fails.
"""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path

import msgspec

from pgherd.model.event import Event
from pgherd.telemetry.writer import LineWriter, RotatingFile

EVENTS_KEPT_MAX = 2000
FILE_BYTES_MAX = 8 << 20
FILES_KEPT_MAX = 3


class Entry(msgspec.Struct, frozen=True):
    """An event with its number in this process's journal, counted from 1."""

    number: int
    event: Event


class Journal:
    """Records events; one for each agent. Without a path it is kept in memory only."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        kept_max: int = EVENTS_KEPT_MAX,
        file_bytes_max: int = FILE_BYTES_MAX,
        files_kept: int = FILES_KEPT_MAX,
    ) -> None:
        self._entries: deque[Entry] = deque(maxlen=kept_max)
        self._number = 0
        self._encoder = msgspec.json.Encoder()
        self._writer: LineWriter | None = None
        self._followers: set[asyncio.Event] = set()
        if path is not None:
            file = RotatingFile(path, bytes_max=file_bytes_max, kept=files_kept)
            self._writer = LineWriter(file, name="pgherd-journal")

    @property
    def dropped(self) -> int:
        """Events that the file did not get; memory always has the newest."""
        return self._writer.dropped if self._writer is not None else 0

    def record(self, event: Event) -> int:
        """Keep an event and return its number. Called from the loop's thread."""
        self._number += 1
        self._entries.append(Entry(self._number, event))
        if self._writer is not None:
            self._writer.put(self._encoder.encode(event))
        for follower in self._followers:
            follower.set()
        return self._number

    def since(self, number: int = 0, *, limit: int = EVENTS_KEPT_MAX) -> tuple[Entry, ...]:
        """The newest `limit` entries after a number, oldest first."""
        found = [entry for entry in self._entries if entry.number > number]
        return tuple(found[-limit:]) if limit > 0 else ()

    async def wait_past(self, number: int) -> None:
        """Return when an entry after this number is there."""
        woken = asyncio.Event()
        self._followers.add(woken)
        try:
            while self._number <= number:
                woken.clear()
                await woken.wait()
        finally:
            self._followers.discard(woken)

    def close(self) -> None:
        """Write what waits."""
        if self._writer is not None:
            self._writer.close()


def read_file(path: Path) -> tuple[Event, ...]:
    """The events of a journal file; a torn last line is left out."""
    decoder = msgspec.json.Decoder(Event)
    events = []
    for line in path.read_bytes().split(b"\n"):
        try:
            events.append(decoder.decode(line))
        except msgspec.DecodeError:
            continue
    return tuple(events)
