"""The book of remedies: what was done about this follower's troubles, kept on its disk.

Owns the record alone: what belongs to the present trouble, what failed, from whom. It survives a
restart of the agent, so that a step which has had its turn does not get it again, and a directory
that cannot be rewound is not tried a second time. What is done next is `plan.remedies`'.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from pgherd.model.action import Planned
from pgherd.model.ids import NodeId
from pgherd.model.remedy import Ending, Ladder, Remedy, Step
from pgherd.plan.remedies import source_of, step_of
from pgherd.postgres.files import read_text, write_atomic
from pgherd.telemetry import logs

log = logs.get("act")

NAME = "remedies.json"
KEPT_MAX = 20
TOLD_MAX = 3
TOLD_MS = 3_600_000
"""Reports are sent a few times a second; the journal keeps what is older."""
CUT_SHORT = "the agent ended before it did"


Tell = Callable[[str, str], None]


class Page(msgspec.Struct, frozen=True):
    """What is written. fresh: how many of the newest belong to the present trouble · commanded: the
    operator's command has made a copy in it · dead_end: the incarnation of a directory that only a
    new copy helps, None where there is none.
    """

    remedies: tuple[Remedy, ...] = ()
    fresh: int = 0
    commanded: bool = False
    dead_end: str | None = None


class Book:
    """All changes are in memory first; `save` writes them, and belongs into a thread."""

    def __init__(self, path: Path | None = None, tell: Tell = lambda kind, text: None) -> None:
        """tell: an event for this node's journal, by kind and text."""
        self._path = path
        self._tell = tell
        self._page = self._written = read(path)
        last = self.newest
        if last is not None and last.ending is Ending.RUNNING:
            self._replace(last, ending=Ending.CUT, why=CUT_SHORT, ended_unix_ms=last.began_unix_ms)

    @property
    def newest(self) -> Remedy | None:
        return self._page.remedies[-1] if self._page.remedies else None

    def told(self, *, unix_ms: int) -> tuple[Remedy, ...]:
        """What reports tell of: the newest few, while they are news."""
        return tuple(
            one
            for one in self._page.remedies[-TOLD_MAX:]
            if one.ending is Ending.RUNNING or unix_ms - one.ended_unix_ms < TOLD_MS
        )

    @property
    def dead_end(self) -> str | None:
        """The incarnation of a directory that nothing but a new copy helps."""
        return self._page.dead_end

    def mark_dead_end(self, incarnation: str | None) -> None:
        self._change(dead_end=incarnation)

    def begun(self, planned: Planned, *, unix_ms: int) -> bool:
        """An act begins; whether it is a remedy. The same again counts as one, with its tries."""
        step = step_of(planned)
        if step is None:
            return False
        made = Remedy(step, planned.rule, planned.reason, unix_ms, source=source_of(planned))
        self._tell("remedy.begun", f"{step.value}: {planned.reason}")
        last, page = self.newest, self._page
        if last is not None and page.fresh and is_again(last, made):
            again = msgspec.structs.replace(made, tries=last.tries + 1)
            self._change(remedies=(*page.remedies[:-1], again))
        else:
            self._change(
                remedies=(*page.remedies, made)[-KEPT_MAX:], fresh=min(page.fresh + 1, KEPT_MAX)
            )
        return True

    def ended(self, ending: Ending, why: str, *, unix_ms: int) -> None:
        """What was begun has ended so."""
        last = self.newest
        assert last is not None, "it was begun"
        self._tell(
            "remedy.ended", f"{last.step.value}: {ending.value}" + (f": {why}" if why else "")
        )
        self._replace(last, ending=ending, why=why, ended_unix_ms=unix_ms)

    def commanded(self) -> None:
        """The operator's command has made a copy, which has to show that it was of use."""
        self._change(commanded=True)

    def is_over(self) -> bool:
        """The leader says that this member streams; whether that ends a trouble."""
        if not self._page.fresh and not self._page.commanded:
            return False
        self._change(fresh=0, commanded=False)
        return True

    def ladder(self, **times: object) -> Ladder:
        """What was tried in the present trouble, beside what the caller knows of it."""
        page = self._page
        tried = page.remedies[-page.fresh :] if page.fresh else ()
        failed = [
            one.source
            for one in tried
            if one.step is Step.COPY and one.ending is Ending.FAILED and one.source is not None
        ]
        base = Ladder(
            tried=tuple(one.step for one in tried),
            failed=tuple(failed),
            commanded=page.commanded,
        )
        return msgspec.structs.replace(base, **times)

    def save(self) -> None:
        """Write what has changed. A disk that takes nothing costs the record, not the repair."""
        page = self._page
        if self._path is None or page == self._written:
            return
        try:
            write_atomic(self._path, msgspec.json.encode(page).decode(), user=None)
            self._written = page
        except OSError as error:
            log.warning("remedies.unwritten", path=str(self._path), reason=str(error))

    @property
    def is_unsaved(self) -> bool:
        return self._page is not self._written

    def _replace(self, last: Remedy, **fields: object) -> None:
        self._change(remedies=(*self._page.remedies[:-1], msgspec.structs.replace(last, **fields)))

    def _change(self, **fields: object) -> None:
        self._page = msgspec.structs.replace(self._page, **fields)


def is_again(last: Remedy, made: Remedy) -> bool:
    """Whether a remedy is the one that has just failed, or was cut short, once more."""
    same: tuple[Step, NodeId | None, int] = (last.step, last.source, last.rule)
    return same == (made.step, made.source, made.rule) and last.ending is not Ending.DONE


def read(path: Path | None) -> Page:
    """What an earlier agent wrote; nothing where it cannot be read."""
    if path is None:
        return Page()
    try:
        text = read_text(path)
        return msgspec.json.decode(text, type=Page) if text else Page()
    except (OSError, msgspec.DecodeError) as error:
        log.warning("remedies.unreadable", path=str(path), reason=str(error))
        return Page()
