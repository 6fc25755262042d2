"""This node's record in the ledger, kept as its file and its program say.

Owns the retries; what a record says is `translate`'s, what becomes of it the ledger's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from pgherd.ledger.commands import AnyCommand, Done, Outcome, UpdateMember
from pgherd.ledger.levels import KINDS, sayable
from pgherd.model.facts import Facts, Member
from pgherd.telemetry import logs

log = logs.get("daemon")

RETRY_S = 2.0


class OwnRecord:
    """wanted: what the record should say; may be replaced at any time."""

    def __init__(
        self, wanted: Member, *, submit: Callable[[AnyCommand], Awaitable[Outcome]]
    ) -> None:
        self.wanted = wanted
        self._submit = submit
        self._task: asyncio.Task[None] | None = None

    def look(self, facts: Facts) -> None:
        """Have the record changed, where it says something else."""
        mine = facts.members.get(self.wanted.node)
        if mine is None:
            return
        own = _sayable(self.wanted, mine, facts.level)
        if _said(mine) == _said(own):
            return
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._update(own), name="record")

    async def _update(self, own: Member) -> None:
        command = UpdateMember(own.node, own.kind, own.address, own.tags, own.level)
        try:
            outcome = await self._submit(command)
            if isinstance(outcome, Done):
                return
        except Exception as error:
            log.debug("record.waits", reason=str(error))
        await asyncio.sleep(RETRY_S)


def _sayable(wanted: Member, mine: Member, level: int) -> Member:
    """What may be said at this level of the ledger: a later kind or tag waits until all know it.

    The rest does not wait, for the level of this program is what raises the ledger's.
    """
    known = KINDS.get(wanted.kind, 1) <= level
    kind, tags = wanted.kind if known else mine.kind, sayable(wanted.tags, level)
    return msgspec.structs.replace(wanted, kind=kind, tags=tags)


def _said(record: Member) -> tuple[object, ...]:
    return record.kind, record.address, record.tags, record.level
