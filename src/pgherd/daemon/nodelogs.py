"""Log lines of this node for whoever asks any node, and the level of what is told, for a while.

Owns cursors into the newest lines of this process, and which secrets are hidden by their value.
Lines in memory and on disk are `telemetry`'s and `postgres`'s.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from pgherd.daemon.asking import Question
from pgherd.model.errors import OperatorError
from pgherd.model.nodelog import LevelNow, LevelWish, LogAsked, LogTold, Source
from pgherd.postgres.logtail import newest, read
from pgherd.telemetry import logs
from pgherd.telemetry.boottime import now_ms
from pgherd.telemetry.hiding import hide
from pgherd.telemetry.ring import Ring

if TYPE_CHECKING:
    from pgherd.daemon.build import Node

log = logs.get("daemon")

LOGS, LOG_LEVEL = "logs", "log-level"
ASK_S = 5.0
RUN = secrets.token_hex(4)
"""Which process the numbers of lines are of."""

Logs = Question[LogAsked, LogTold]
Level = Question[LevelWish, LevelNow]


def of_agent(ring: Ring, asked: LogAsked) -> LogTold:
    """Lines of this process."""
    run, _, number = asked.cursor.partition(":")
    follows = run == RUN and number.isdigit()
    after = int(number) if follows else 0
    lines = [line.decode(errors="backslashreplace") for line in ring.since(after)]
    first = ring.last - len(lines)
    if not follows:
        return LogTold(newest(lines, asked.lines), f"{RUN}:{ring.last}", skipped=bool(asked.cursor))
    taken = oldest(lines, asked.lines)
    return LogTold(taken, f"{RUN}:{first + len(taken)}", skipped=first > after)


def oldest(lines: list[str], count: int) -> tuple[str, ...]:
    """The first ones that one answer may hold."""
    some = lines[:count]
    while len(some) > 1 and len(newest(some, count)) < len(some):
        some = some[: len(some) // 2]
    return tuple(some)


class NodeLogs:
    """One node's."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def tell(self, asked: LogAsked) -> LogTold:
        """What was asked for, without secrets. Raises OperatorError where there is no server."""
        if asked.source is Source.POSTGRES:
            told = await self._of_server(asked)
        else:
            told = of_agent(logs.outputs().recent, asked)
        lines = hide(told.lines, known=self._secrets())
        return LogTold(lines, told.cursor, skipped=told.skipped)

    async def _of_server(self, asked: LogAsked) -> LogTold:
        server = self._node.server
        if server is None:
            raise OperatorError(f"{self._node.me} has no PostgreSQL", "ask a data member")
        try:
            return await asyncio.to_thread(read, server.log_file, asked)
        except OSError as error:
            raise OperatorError(f"cannot read {server.log_file}: {error.strerror}") from error

    def _secrets(self) -> tuple[str, ...]:
        server = self._node.server
        if server is None:
            return ()
        known = server.settings
        return (known.superuser_password, known.replication_password, known.rewind_password)


class LogLevel:
    """The level of what is told: the file's, or for a while another one."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._level = ""
        self._until = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_other(self) -> bool:
        """Whether it is not the file's."""
        return bool(self._level)

    def file_rules(self) -> None:
        """The file was read again: what was asked for is over."""
        if self._timer is not None:
            self._timer.cancel()
        self._level, self._until, self._timer = "", 0, None
        logs.set_level(self._node.settings.log.level)

    async def set(self, wish: LevelWish) -> LevelNow:
        """Tell from this level on; "" asks only. Raises OperatorError for a level there is not."""
        if wish.level:
            if wish.level not in logs.LEVELS:
                raise OperatorError(f"{wish.level} is no level", f"one of {', '.join(logs.LEVELS)}")
            self.file_rules()
            self._level = wish.level
            logs.set_level(wish.level)
            if wish.for_ms:
                self._until = now_ms() + wish.for_ms
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(wish.for_ms / 1000, self.file_rules)
            log.warning("log.level-changed", level=wish.level, by=wish.requested_by)
        configured = self._node.settings.log.level
        left_ms = max(0, self._until - now_ms()) if self._until else 0
        return LevelNow(self._level or configured, configured, left_ms)


def attach(node: Node) -> tuple[Logs, Level, LogLevel]:
    """The questions as any node puts them, and this one answers."""
    level = LogLevel(node)
    ask = node.peers.request
    return (
        Question(
            LOGS,
            LogAsked,
            LogTold,
            me=node.me,
            here=NodeLogs(node).tell,
            ask=ask,
            timeout_s=ASK_S,
        ),
        Question(
            LOG_LEVEL, LevelWish, LevelNow, me=node.me, here=level.set, ask=ask, timeout_s=ASK_S
        ),
        level,
    )
