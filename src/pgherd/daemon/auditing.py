"""What was asked for on this node's API: each change in the log, and in the ledger in batches.

Owns the batches: a second's changes are one command, tried again while there is no quorum, and the
oldest are given up when too many wait; the log has all. Refusals of who may not are in the log
only, so many a minute: whoever tries tokens must fill neither.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable

from pgherd.api.gate import Asked
from pgherd.ledger.commands import AnyCommand, Outcome, RecordAudit
from pgherd.model.errors import PgherdError
from pgherd.model.ids import NodeId
from pgherd.model.rights import AuditEntry
from pgherd.telemetry import logs

BATCH_S = 1.0
RETRY_S = 5.0
BATCH_MAX = 64
WAITING_MAX = 256
REFUSALS_PER_MINUTE = 30
END_S = 1.0
UNTOLD = (401, 403, 412, 429, 431)
"""What is in the log only."""

log = logs.get("api")


class Auditing:
    """See the module's text."""

    def __init__(
        self,
        *,
        me: NodeId,
        submit: Callable[[AnyCommand], Awaitable[Outcome]],
        unix_s: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._me = me
        self._submit = submit
        self._unix_s = unix_s
        self._clock = clock
        self._waiting: list[AuditEntry] = []
        self._task: asyncio.Task[None] | None = None
        self._minute = 0.0
        self._refused = 0

    def changed(self, asked: Asked) -> None:
        """Take note of a change that was answered."""
        who = asked.caller.name if asked.caller is not None else ""
        said = {
            "who": who or "unknown",
            "address": asked.address,
            "what": asked.what,
            "status": asked.status,
            "result": asked.code or ("done" if asked.status < 400 else "failed"),
            "request": asked.request_id,
        }
        if not who or asked.status in UNTOLD:
            self._refuse(said)
            return
        log.info("api.changed", **said)
        entry = AuditEntry(
            id=secrets.token_hex(8),
            node=self._me,
            at_ms=int(self._unix_s() * 1000),
            who=who,
            address=asked.address,
            what=asked.what,
            status=asked.status,
            code=asked.code,
            request=asked.request_id,
        )
        self._waiting = [*self._waiting, entry][-WAITING_MAX:]
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._tell(), name="audit")

    async def end(self) -> None:
        """Tell what waits, if that works at once."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        try:
            async with asyncio.timeout(END_S):
                await self._batch()
        except (PgherdError, TimeoutError):
            log.warning("audit.untold", changes=len(self._waiting))

    async def _tell(self) -> None:
        pause_s = BATCH_S
        while self._waiting:
            await asyncio.sleep(pause_s)
            try:
                await self._batch()
                pause_s = BATCH_S
            except PgherdError as error:
                pause_s = RETRY_S
                log.debug("audit.waits", reason=str(error))

    async def _batch(self) -> None:
        batch = tuple(self._waiting[:BATCH_MAX])
        if batch:
            await self._submit(RecordAudit(batch))
            self._waiting = [one for one in self._waiting if one not in batch]

    def _refuse(self, said: dict[str, object]) -> None:
        now = self._clock()
        if now - self._minute >= 60.0:
            if self._refused > REFUSALS_PER_MINUTE:
                log.warning("api.refused_more", count=self._refused - REFUSALS_PER_MINUTE)
            self._minute, self._refused = now, 0
        self._refused += 1
        if self._refused <= REFUSALS_PER_MINUTE:
            log.warning("api.refused", **said)
