"""The executor of one member: acts one at a time, in order, and says how each ended.

An act that is overtaken by a higher term is cancelled where that is safe; a promotion is always
finished. A failed act is not repeated at once: the pause grows, and the reason is kept for people.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pgherd.act import (
    configuring,
    fencing,
    following,
    forwarding,
    leading,
    remedies,
    room,
    slotkeeping,
    standbycluster,
)
from pgherd.act.book import Book
from pgherd.act.failpoints import POINTS, act_name
from pgherd.act.hands import ActFailed, Hands, StaleAct
from pgherd.model import action as act
from pgherd.model.action import Action, Planned
from pgherd.model.errors import PgherdError, PostgresError
from pgherd.model.ids import Term
from pgherd.model.remedy import Ending
from pgherd.telemetry import logs
from pgherd.telemetry.boottime import now_ms, unix_ms

log = logs.get("act")

PAUSE_FIRST_MS = 100
PAUSE_MAX_MS = 5000
COPY_PAUSE_MAX_MS = 300_000
"""A copy that failed late is not begun again before as long has passed once more, up to this."""
STARTS_MAX = 4
"""Starts that fail in a row before a directory is taken for broken: a follower then copies."""


async def _keep_leading(hands: Hands, a: act.KeepLeading) -> None:
    await leading.record(hands, a.term)


ACTUATORS: dict[type[Action], Callable[[Hands, Any], Awaitable[None]]] = {
    act.InitDb: following.init_db,
    act.StartStandby: following.start_standby,
    act.FreeBallast: room.free_ballast,
    act.Seal: following.seal,
    act.FastForward: forwarding.fast_forward,
    act.Lend: forwarding.lend,
    act.Follow: following.follow,
    act.Delay: following.delay,
    act.Rewind: following.do_rewind,
    act.Rebuild: following.rebuild,
    act.StopServer: following.stop_server,
    act.Disown: following.disown,
    act.ClearFloor: following.clear_floor,
    act.CloseGate: leading.close_gate,
    act.DrainAndStop: leading.drain_and_stop,
    act.Fence: fencing.fence,
    act.Promote: leading.promote,
    act.KeepLeading: _keep_leading,
    act.SetNames: leading.set_names,
    act.HoldWrites: leading.hold_writes,
    act.Settle: leading.settle,
    act.KeepSlots: slotkeeping.keep_slots,
    act.Checkpoint: leading.checkpoint,
    act.Configure: configuring.configure,
    act.EnsureRoles: leading.ensure_roles,
    act.Reload: following.reload,
    act.RestartReceiver: remedies.restart_receiver,
    act.Repoint: remedies.repoint,
    act.Fetch: following.fetch,
    act.Stream: standbycluster.stream,
    act.CopySource: standbycluster.copy,
    act.StandDown: standbycluster.stand_down,
}
CANCELLABLE = (
    act.Settle,
    act.Rebuild,
    act.Checkpoint,
    act.Rewind,
    act.DrainAndStop,
    act.Fence,
    act.FastForward,
    act.Promote,
    act.CopySource,
)
"""Long acts that a higher term makes pointless, and that leave nothing unsafe when cut short,
but for the parts in which they say so (`Hands.uncut`)."""


class Executor:
    """Runs one act at a time."""

    def __init__(
        self,
        hands: Hands,
        *,
        look: Callable[[], Awaitable[object]],
        finished: Callable[[Planned, bool], None],
        book: Book | None = None,
    ) -> None:
        self.hands = hands
        self._look = look
        self.current: Planned | None = None
        self.failure = ""
        self.ending = Ending.DONE
        """How the last act ended."""
        self.book = book or Book()
        hands.commanded = self.book.commanded
        self._finished = finished
        self._task: asyncio.Task[None] | None = None
        self._pause_ms = 0
        self._not_before = 0
        self._looking = False
        self._starts_failed = 0
        self._failed_action: Action | None = None

    @property
    def is_busy(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def dead_end(self) -> bool:
        """Whether this directory cannot follow or be rewound, so that only a new copy helps."""
        return self.book.dead_end == self.hands.promises().incarnation

    def doing(self) -> Action | None:
        """The act that runs now."""
        return self.current.action if self.is_busy and self.current is not None else None

    def may_start(self, action: Action) -> bool:
        """Whether an act may begin now: none runs, and it did not fail just now."""
        if self.is_busy:
            return False
        return action != self._failed_action or now_ms() >= self._not_before

    def start(self, planned: Planned) -> None:
        """Begin an act."""
        assert planned.action is not None
        assert not self.is_busy
        self.current = planned
        self.hands.uncut = self._looking = False
        self._task = asyncio.create_task(self._run(planned, planned.action), name="act")

    def overtaken(self, term: Term) -> None:
        """Cut short an act of an earlier term, where that is safe."""
        action = self.doing()
        mine = getattr(action, "term", None)
        late = mine is not None and mine < term
        if late and self._may_cut(action):
            self._cut()

    def make_way(self, action: Action) -> None:
        """Cut short a checkpoint for something that cannot wait; it is asked for again.

        Writes that have to be held wait for nothing that can be cut at all.
        """
        now = self.doing()
        if isinstance(action, act.HoldWrites) and self._may_cut(now):
            self._cut()
        if isinstance(now, act.Checkpoint) and not isinstance(action, act.Checkpoint):
            self._cut()

    def _may_cut(self, action: Action | None) -> bool:
        return isinstance(action, CANCELLABLE) and not self.hands.uncut

    def _cut(self) -> None:
        if self._task is not None and not self._looking:
            self._task.cancel()

    async def stop(self) -> None:
        """Wait for the act in progress, or cut it short where that is safe."""
        if self._task is None or self._task.done():
            return
        if self.current is not None and self._may_cut(self.current.action):
            self._cut()
        await asyncio.wait({self._task})

    async def _run(self, planned: Planned, action: Action) -> None:
        name = type(action).__name__
        asked = {"id": work} if (work := getattr(action, "work", "")) else {}
        log.info("act.begun", act=name, rule=planned.rule, reason=planned.reason, **asked)
        began, done = now_ms(), False
        is_remedy = self.book.begun(planned, unix_ms=unix_ms())
        ending, why = Ending.CUT, ""
        try:
            await self._save_book()
            if POINTS:
                await POINTS.strike(f"before.{act_name(type(action))}")
            await ACTUATORS[type(action)](self.hands, action)
            if POINTS:
                await POINTS.strike(f"after.{act_name(type(action))}")
            done, ending = True, Ending.DONE
            self._succeeded(action)
        except asyncio.CancelledError:
            log.info("act.overtaken", act=name)
        except StaleAct as stale:
            log.info("act.stale", act=name, reason=str(stale))
        except (ActFailed, PgherdError, OSError) as error:
            ending, why = Ending.FAILED, str(error)
            self._failed(action, error, took_ms=now_ms() - began)
        except Exception as error:
            log.error("act.broken", act=name, exc_info=error)
            ending, why = Ending.FAILED, repr(error)
            self._failed(action, error, took_ms=now_ms() - began)
        log.info("act.ended", act=name, done=done, ms=now_ms() - began)
        self.hands.acted(planned, ending.value, why, now_ms() - began)
        if is_remedy:
            self.book.ended(ending, why, unix_ms=unix_ms())
        # The next decision must see what this act did, or it would be decided again.
        self._looking, self.ending = True, ending
        try:
            await self._save_book()
            await self._look()
        finally:
            self.current = None
            self.hands.progress(None)
            self._finished(planned, done)

    def _succeeded(self, action: Action) -> None:
        self.failure, self._failed_action, self._pause_ms = "", None, 0
        if isinstance(action, act.StartStandby):
            self._starts_failed = 0
        if isinstance(action, act.Rebuild | act.Follow | act.Promote | act.CopySource):
            self.book.mark_dead_end(None)

    async def _save_book(self) -> None:
        if self.book.is_unsaved:
            await asyncio.to_thread(self.book.save)

    def _failed(self, action: Action, error: Exception, *, took_ms: int) -> None:
        self.failure = f"{type(action).__name__}: {error}"
        again = self._failed_action == action
        self._pause_ms = min(PAUSE_MAX_MS, self._pause_ms * 2) if again else PAUSE_FIRST_MS
        if isinstance(action, act.Rebuild | act.CopySource):
            self._pause_ms = max(self._pause_ms, min(took_ms, COPY_PAUSE_MAX_MS))
        self._failed_action = action
        self._not_before = now_ms() + self._pause_ms
        self._starts_failed += isinstance(action, act.StartStandby)
        never_starts = isinstance(error, PostgresError) and self._starts_failed >= STARTS_MAX
        if never_starts or (isinstance(error, ActFailed) and error.hopeless):
            self.book.mark_dead_end(self.hands.promises().incarnation)
        log.warning("act.failed", act=type(action).__name__, reason=str(error))
