"""The journal: this node's events, the newest in memory, all of them appended to a file.

Owns the bounded memory, numbering, the JSON lines on disk, waking those who follow, and the places
at which a follower goes on, here or at another node. Leaves what is an event to the rooms that
record it. `record` never waits and never fails.

A place is `INDEX.RUN.NUMBER`: the newest index of the ledger that was told up to there, and the
number of the event in the journal of one run. In the same journal the number counts, in any other
one the index: every node has the cluster's events in the same order.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from pathlib import Path

import msgspec

from pgherd.model.event import Event
from pgherd.telemetry.writer import LineWriter, RotatingFile

EVENTS_KEPT_MAX = 2000
FILE_BYTES_MAX = 8 << 20
FILES_KEPT_MAX = 3
RECALLED_BYTES_MAX = 128 << 10
"""So much of the file's end is read again at the start: what happened before is asked for then."""


class Entry(msgspec.Struct, frozen=True):
    """An event with its number in this journal, counted from 1, and the newest index so far."""

    number: int
    event: Event
    index: int = 0


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
        self.run = secrets.token_hex(4)
        """Tells this journal from those of other nodes, and from what it was before a restart."""
        self.closing = False
        """Whether the agent ends, so that nobody follows any more."""
        self.index = 0
        """The newest index of the ledger that was recorded."""
        self._entries: deque[Entry] = deque(maxlen=kept_max)
        self._number = 0
        self._forgotten = 0
        """The number of the newest entry that memory had no room for any more."""
        self._encoder = msgspec.json.Encoder()
        self._writer: LineWriter | None = None
        self._followers: set[asyncio.Event] = set()
        if path is not None:
            for event in read_file(path, bytes_max=RECALLED_BYTES_MAX) if path.exists() else ():
                self._keep(event)
            file = RotatingFile(path, bytes_max=file_bytes_max, kept=files_kept)
            self._writer = LineWriter(file, name="pgherd-journal")

    @property
    def dropped(self) -> int:
        """Events that the file did not get; memory always has the newest."""
        return self._writer.dropped if self._writer is not None else 0

    @property
    def newest(self) -> int:
        """The number of the newest event, 0 where there is none."""
        return self._number

    def record(self, event: Event) -> int:
        """Keep an event and return its number. Called from the loop's thread."""
        kept = self._keep(event)
        if self._writer is not None:
            self._writer.put(self._encoder.encode(kept.event))
        return kept.number

    def repeat(self, event: Event) -> None:
        """Keep an event of another node, in memory alone: its own node writes it down."""
        self._keep(event)

    def _keep(self, event: Event) -> Entry:
        self._number += 1
        self.index = max(self.index, event.index)
        if not event.id:
            event = msgspec.structs.replace(event, id=f"{event.node}-{self.run}-{self._number}")
        entry = Entry(self._number, event, self.index)
        if len(self._entries) == self._entries.maxlen:
            self._forgotten = self._entries[0].number
        self._entries.append(entry)
        for follower in self._followers:
            follower.set()
        return entry

    def replace(self, event: Event) -> int:
        """Keep an event in the place of the last one of its kind, in memory only.

        For what is told again and again: it must not push decisions out, nor fill the file. The
        number of the last one is left out from then on.
        """
        self._entries = deque(
            (entry for entry in self._entries if entry.event.kind != event.kind),
            maxlen=self._entries.maxlen,
        )
        return self._keep(event).number

    def since(self, number: int = 0, *, limit: int = EVENTS_KEPT_MAX) -> tuple[Entry, ...]:
        """The newest `limit` entries after a number, oldest first."""
        found: list[Entry] = []
        for entry in reversed(self._entries):
            if entry.number <= number or len(found) >= limit:
                break
            found.append(entry)
        return tuple(reversed(found))

    def following(self, number: int, *, limit: int) -> tuple[Entry, ...]:
        """The oldest `limit` entries after a number that are still kept."""
        return self.since(number)[:limit]

    def missed(self, number: int) -> int:
        """How many events after a number are not kept any more, those that were replaced too."""
        return max(0, self._forgotten - number)

    def place(self, entry: Entry) -> str:
        """Where a follower goes on after an entry."""
        return f"{entry.index}.{self.run}.{entry.number}"

    def place_now(self) -> str:
        """Where a follower goes on that wants what comes from now on."""
        return f"{self.index}.{self.run}.{self._number}"

    def number_after(self, place: str) -> int:
        """The number after which a follower goes on. Raises ValueError for what is no place."""
        index, run, number = place.split(".")
        if run == self.run:
            return int(number)
        known = int(index)
        for entry in reversed(self._entries):
            if entry.index <= known:
                return entry.number
        return -1 if self.missed(0) else 0

    async def wait_past(self, number: int) -> None:
        """Return when an entry after this number is there, or the agent ends."""
        woken = asyncio.Event()
        self._followers.add(woken)
        try:
            while self._number <= number and not self.closing:
                woken.clear()
                await woken.wait()
        finally:
            self._followers.discard(woken)

    def let_go(self) -> None:
        """End what follows."""
        self.closing = True
        for follower in self._followers:
            follower.set()

    def close(self) -> None:
        """Write what waits."""
        if self._writer is not None:
            self._writer.close()


def read_file(path: Path, *, bytes_max: int | None = None) -> tuple[Event, ...]:
    """The events of a journal file, or of its end; a torn line is left out."""
    decoder = msgspec.json.Decoder(Event)
    events = []
    try:
        with path.open("rb") as file:
            if bytes_max is not None:
                file.seek(max(0, path.stat().st_size - bytes_max))
            text = file.read()
    except OSError:
        return ()
    for line in text.split(b"\n"):
        try:
            events.append(decoder.decode(line))
        except msgspec.DecodeError:
            continue
    return tuple(events)
