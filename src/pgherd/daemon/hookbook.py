"""What hooks must remember over a restart of the agent and a change of the Raft leader.

Owns `hooks.json`: the role that was told last, and how far each receiver has the cluster's events.
Nothing here is promised with: what is forgotten is told twice, and never not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from pgherd.model.event import Event
from pgherd.postgres.files import write_atomic
from pgherd.telemetry import logs

log = logs.get("hooks")

NAME = "hooks.json"
PARTS_MAX = 100
MARK_MAX = 1 << 62


def mark_of(event: Event) -> int:
    """The place of a cluster's event among all: its index, then its part of it."""
    part = event.id.rpartition(".")[2]
    return event.index * PARTS_MAX + (int(part) if part.isdigit() else 0)


class Page(msgspec.Struct, frozen=True):
    """What is written. delivered: by the name of a webhook, the mark that it has all events to."""

    role: str = ""
    delivered: dict[str, int] = {}


class HookBook:
    """Changes are in memory first; they are written soon, one after the other, in a thread."""

    def __init__(self, directory: Path, *, end: Callable[[], int] = lambda: MARK_MAX) -> None:
        """end: the mark that no event of this ledger has come to yet.

        A ledger that was restored from an older file goes back; marks beyond its end are of the
        other one, and count for nothing.
        """
        self._end = end
        self._ahead: dict[str, int] = {}
        self._path = directory / NAME
        self._page = self._written = read(self._path)
        self._writing: asyncio.Task[None] | None = None

    @property
    def role(self) -> str:
        """The role that was told last, "" for none."""
        return self._page.role

    @property
    def delivered(self) -> dict[str, int]:
        """How far each receiver has the cluster's events, as far as it is known here."""
        end = self._end()
        told = [*self._page.delivered.items(), *self._ahead.items()]
        return dict(sorted((name, mark) for name, mark in told if mark < end))

    def keep_role(self, role: str) -> None:
        """This role was told."""
        self._change(msgspec.structs.replace(self._page, role=role))

    def keep_delivered(self, marks: dict[str, int]) -> bool:
        """Receivers have the events up to these marks; whether that is news."""
        end, known = self._end(), self.delivered
        # A sender may have applied more than this node; or its mark is of another ledger.
        self._ahead |= {name: mark for name, mark in marks.items() if mark >= end}
        news = {name: mark for name, mark in marks.items() if known.get(name, -1) < mark < end}
        if news:
            self._change(msgspec.structs.replace(self._page, delivered={**known, **news}))
        return bool(news)

    async def written(self) -> None:
        """Return once everything is on its way to the disk."""
        if self._writing is not None:
            await asyncio.wait({self._writing})

    def _change(self, page: Page) -> None:
        self._page = page
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(), name="hook-book")

    async def _write(self) -> None:
        while self._written is not self._page:
            page = self._page
            text = msgspec.json.encode(page).decode()
            try:
                await asyncio.to_thread(write_atomic, self._path, text, user=None, durable=False)
            except OSError as error:
                log.warning("hooks.unwritten", path=str(self._path), reason=str(error))
            self._written = page


def read(path: Path) -> Page:
    """What an earlier agent wrote; nothing where it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Page)
    except FileNotFoundError:
        return Page()
    except (OSError, msgspec.DecodeError) as error:
        log.warning("hooks.unreadable", path=str(path), reason=str(error))
        return Page()
