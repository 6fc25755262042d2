"""What operators do to pools: PAUSE, RESUME and RECONNECT, of one database or of all.

A pause is this process's own and ends with it: what is paused is told wherever pools are shown.
Owns what is paused. What it means for one pool is `route.pooling`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pgherd.relay.journal import say
from pgherd.relay.shares import Run
from pgherd.telemetry.boottime import now_ms
from pgherd.wire.answer import Refusal

if TYPE_CHECKING:
    from pgherd.relay.lending import Lending

ALL = ""
_NOT_SO = "55000"


class Pausing:
    """One proxy's. lendings: all pools, those that are over included · run: carries out what one
    of them says · all_back: has every session and server here (`carrying`).
    """

    def __init__(
        self, lendings: Callable[[], Iterable[Lending]], run: Run, all_back: Callable[[], None]
    ) -> None:
        self._all_back = all_back
        self._lendings = lendings
        self._run = run
        self._paused: set[str] = set()

    def is_paused(self, database: str) -> bool:
        """Whether no server is lent to clients of a database, as they call it."""
        return ALL in self._paused or database in self._paused

    @property
    def named(self) -> frozenset[str]:
        """Databases that were paused by name."""
        return frozenset(self._paused - {ALL})

    def pause(self, database: str, *, who: str) -> None:
        """Lend no server until RESUME; servers end as they come back (`is_quiet`)."""
        self._paused.add(database)
        say("pools.paused", database=database or "all", by=who)
        self._all_back()
        now = now_ms()
        for lending in self.of(database):
            self._run(lending, lending.pool.pause(now))

    def resume(self, database: str, *, who: str) -> Refusal | None:
        """End a pause, or say why there is none to end."""
        if database != ALL and ALL in self._paused:
            text = f"pgherd: all databases are paused, not {database} alone"
            return Refusal(_NOT_SO, text, "RESUME without a name ends that.")
        if not self._paused or database not in (ALL, *self._paused):
            what = f"{database} is not" if database != ALL else "nothing is"
            return Refusal(_NOT_SO, f"pgherd: {what} paused", "SHOW DATABASES tells what is.")
        if database == ALL:
            self._paused.clear()
        self._paused.discard(database)
        say("pools.resumed", database=database or "all", by=who)
        now = now_ms()
        for lending in self.of(database):
            self._run(lending, lending.pool.resume(now))
        return None

    def reconnect(self, database: str, *, who: str) -> None:
        """Replace every server, at once or when it comes back."""
        say("pools.reconnected", database=database or "all", by=who)
        self._all_back()
        now = now_ms()
        for lending in self.of(database):
            self._run(lending, lending.pool.reconnect(now))

    def is_quiet(self, database: str) -> bool:
        """Whether there is no server left."""
        return all(lending.pool.is_quiet for lending in self.of(database))

    def of(self, database: str) -> list[Lending]:
        """The pools of a database."""
        return [one for one in self._lendings() if database in (ALL, one.family.database)]
