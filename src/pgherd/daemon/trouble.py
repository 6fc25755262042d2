"""What the agent keeps of its own follower's trouble: how long it stands still, and who says why.

Owns the clocks (`plan.standstill`), the reading of the server's log while nothing comes, and the
closing of the book of remedies when all is well again. Decides nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgherd.model.ids import Instant, MemberKey
from pgherd.model.remedy import Ladder, Repairs, Said
from pgherd.plan import cloning, remedies, upstreams
from pgherd.plan.standstill import Standstill
from pgherd.plan.upstreams import Patience
from pgherd.postgres import receiverlog
from pgherd.telemetry.boottime import unix_ms

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from pgherd.act.executor import Executor
    from pgherd.model.facts import Facts
    from pgherd.model.ids import NodeId
    from pgherd.model.observation import Observation, ServerSeen
    from pgherd.model.remedy import Copied
    from pgherd.plan.own import Lender, Self

DOUBT_MS = 1_000
"""From when on the log is watched."""
READ_EVERY_MS = 2_000


class Trouble:
    """One follower's, as its agent sees it."""

    def __init__(self, executor: Executor, *, now: Instant) -> None:
        self.still = Standstill(now)
        self.may_go_over = False
        """Whether it has streamed from the primary for long enough to go to its upstream."""
        self._patience = Patience(now)
        self.stuck = ""
        self.copied: Copied | None = None
        self._me = executor.hands.me
        self._book = executor.book
        self._log = executor.hands.server.log_file
        self._said = Said()
        self._offset: int | None = None
        self._read_at = now
        self._task: asyncio.Task[None] | None = None

    def look(
        self,
        facts: Facts,
        seen: ServerSeen,
        me: MemberKey,
        fresh: Mapping[NodeId, Observation],
        *,
        now: Instant,
    ) -> None:
        """One more look at the server, and at what the others told lately."""
        above = upstreams.fed_by(facts, seen)
        self.may_go_over = self._patience.look(above, now=now)
        leader = facts.leader.node if facts.leader is not None else None
        feeder = fresh.get(above or leader or self._me)
        streams = feeder is not None and upstreams.serves(facts, feeder, me)
        self.still.look(seen, streams=streams, leader=feeder, now=now)
        if streams and self._book.is_over():
            self._start(asyncio.to_thread(self._book.save))
        if now - self.still.received_since < DOUBT_MS:
            self._said, self._offset = Said(), None
        elif now - self._read_at >= READ_EVERY_MS or self._offset is None:
            self._read_at = now
            self._start(self._read())

    def lenders(self, facts: Facts, fresh: Mapping[NodeId, Observation]) -> tuple[Lender, ...]:
        """Replicas that could be copied here now."""
        return cloning.lenders(facts, self._me, fresh)

    def understand(self, own: Self) -> None:
        """Why it does not come on, as the deciders say it."""
        self.stuck = remedies.stuck(own)

    def ladder(self, *, now: Instant) -> Ladder:
        """The present trouble."""
        return self._book.ladder(
            received_ms=now - self.still.received_since,
            replayed_ms=now - self.still.replayed_since,
            said=self._said,
        )

    def repairs(self) -> Repairs:
        """What this node tells of it."""
        return Repairs(
            stuck=self.stuck, remedies=self._book.told(unix_ms=unix_ms()), copied=self.copied
        )

    def _start(self, job: Coroutine[None, None, None]) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(job, name="trouble")
        else:
            job.close()

    async def _read(self) -> None:
        """The log from the trouble's beginning on; a disk may hang, so not on the loop."""
        if self._offset is None:
            self._offset = await asyncio.to_thread(receiverlog.size, self._log)
            return
        said = await asyncio.to_thread(receiverlog.last_words, self._log, offset=self._offset)
        if said.text and self._offset is not None:
            self._said = said


def told(trouble: Trouble | None) -> Repairs:
    """What a node tells of its trouble; one without a server has none."""
    return trouble.repairs() if trouble is not None else Repairs()
